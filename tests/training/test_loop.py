"""The loop: records, clocks, divergence."""

import dataclasses
import itertools
import math

import pytest

from eml.data.datasets import load
from eml.training.loop import EpochRecord, TrainingLoop
from support.commands import config_of

CLOCKS = (
    "train_seconds",
    "train_cpu_seconds",
    "eval_seconds",
    "wall_seconds",
    "setup_seconds",
    "images_per_second",
    "slowdown",
    "timestamp",
)


def records(**options) -> list[EpochRecord]:
    config = config_of("mlp_torch", **{"epochs": 3, "device": "cpu"} | options)
    return list(TrainingLoop(config, load("mnist")))


def scores(epochs: list[EpochRecord]) -> list[dict]:
    return [{k: v for k, v in dataclasses.asdict(r).items() if k not in CLOCKS} for r in epochs]


def test_it_learns(small_data):
    last = records(lr="0.5", epochs=8)[-1]
    assert last.test_accuracy > 0.8


def test_same_seed_same_records(small_data):
    assert scores(records()) == scores(records())
    assert scores(records()) != scores(records(seed=2))
    config = config_of("cifar_cnn", optimizer="adam", epochs=2, device="cpu")
    first, second = (scores(TrainingLoop(config, load("cifar10"))) for _ in range(2))
    assert first == second


def test_a_record_for_each_epoch_and_its_clocks(small_data):
    epochs = records()
    assert [r.epoch for r in epochs] == [0, 1, 2, 3]
    untrained = epochs[0]
    assert untrained.train_seconds == 0
    assert untrained.test_loss == pytest.approx(math.log(10), rel=0.1)
    assert math.isnan(untrained.images_per_second)
    for before, after in itertools.pairwise(epochs):
        assert after.train_seconds > before.train_seconds
        assert after.eval_seconds > before.eval_seconds
        assert after.images_per_second == pytest.approx(
            500 / (after.train_seconds - before.train_seconds)
        )
    for record in epochs:
        parts = record.setup_seconds + record.train_seconds + record.eval_seconds
        assert parts <= record.wall_seconds


def test_evaluation_and_whoever_reads_are_not_in_the_training_clock(small_data, monkeypatch):
    # A clock that stands still but for what each part adds tells them apart exactly.
    now = 0.0
    monkeypatch.setattr("eml.training.loop.perf_counter", lambda: now)
    monkeypatch.setattr("eml.training.loop.process_time", lambda: 2 * now)  # of two threads
    config = config_of("mlp_torch", epochs=2, device="cpu")
    training = TrainingLoop(config, load("mnist"))

    def takes(seconds, method):
        def slow(*arguments):
            nonlocal now
            now += seconds
            return method(*arguments)

        return slow

    learner = training.learner
    learner.train_epoch = takes(10, learner.train_epoch)
    learner.evaluate = takes(3, learner.evaluate)
    for record in training:
        assert record.train_seconds == 10 * record.epoch
        assert record.train_cpu_seconds == 20 * record.epoch
        assert record.eval_seconds == 6 + 3 * record.epoch
        assert record.wall_seconds == now
        now += 100  # the reader logs, draws, ...


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_loss_that_is_not_finite_is_divergence(split, small_data):
    training = TrainingLoop(config_of("mlp_torch", epochs=3, device="cpu"), load("mnist"))
    learner = training.learner

    def broken(method):
        return lambda *arguments: method(*arguments)._replace(loss=math.inf)

    if split == "train":
        learner.train_epoch = broken(learner.train_epoch)
    else:
        evaluate = learner.evaluate
        learner.evaluate = lambda split: (broken(evaluate) if training.epoch else evaluate)(split)
    last = list(training)[-1]
    assert last.diverged
    assert last.epoch == 1


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_loss_that_is_not_finite_ends_the_training(small_data):
    epochs = records(lr="1e30", activation="relu", epochs=5)
    assert epochs[-1].diverged
    assert len(epochs) < 6
    assert not any(r.diverged for r in epochs[:-1])
    last = epochs[-1]
    for value in (last.train_loss, last.train_accuracy, last.test_loss, last.test_accuracy):
        assert math.isnan(value)


def test_a_lost_image_is_noticed(small_data):
    config = config_of("mlp_torch", epochs=1, device="cpu")
    training = TrainingLoop(config, load("mnist"))
    whole = training.learner.evaluate
    training.learner.evaluate = lambda split: whole(split)._replace(examples=99)
    with pytest.raises(AssertionError, match="left out"):
        list(training)
