"""The loop: records, clocks, divergence."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from eml.data.datasets import load
from eml.training import loop
from eml.training.loop import TrainingLoop, load_for, make_learner
from support import plain
from support.commands import config_of


@pytest.mark.parametrize("validation", [0, 70])
def test_a_record_holds_the_scores_of_its_epoch(validation, small_data):
    options = {"epochs": 2, "lr": "0.03", "seed": 3, "dtype": "float64", "device": "cpu"}
    config = replace(config_of("mlp_torch", **options), validation=validation)
    began = time.time_ns() // 1_000_000
    epochs, _ = plain.train(config)
    records = list(TrainingLoop(config, load_for(config)))
    for record, expected in zip(records, epochs, strict=True):
        assert {key: getattr(record, key) for key in expected} == pytest.approx(expected, rel=1e-9)
        assert record.evaluated == ("validation" if validation else "test")
        assert record.loss == getattr(record, f"{record.evaluated}_loss")
        assert record.accuracy == getattr(record, f"{record.evaluated}_accuracy")
        assert began <= record.timestamp <= time.time_ns() // 1_000_000
    assert records[-1].train_accuracy != records[-1].accuracy  # they cannot be mixed up


def test_each_clock_holds_its_own_part_also_of_a_training_that_goes_on(small_data, monkeypatch):
    # Clocks that stand still but for what each part adds tell the parts apart exactly.
    now = cpu = 0

    def takes(seconds, cpu_seconds, function):
        def slow(*arguments):
            nonlocal now, cpu
            now, cpu = now + seconds, cpu + cpu_seconds
            return function(*arguments)

        return slow

    def slow_learner(*arguments):
        learner = takes(7, 11, make_learner)(*arguments)
        learner.train_epoch = takes(10, 19, learner.train_epoch)
        learner.evaluate = takes(3, 5, learner.evaluate)
        return learner

    monkeypatch.setattr(loop, "make_learner", slow_learner)
    monkeypatch.setattr(loop, "perf_counter", lambda: now)
    monkeypatch.setattr(loop, "process_time", lambda: cpu)
    config, dataset = config_of("mlp_torch", epochs=4, device="cpu"), load("mnist")
    record = state = None
    for part in ([0, 1, 2], [3], [4]):  # three processes, one after the other
        before = now - (record.wall_seconds if record else 0)
        training = TrainingLoop(config, dataset, record, state)
        for epoch, record in zip(part, training):  # noqa: B905
            assert record.epoch == epoch
            assert record.setup_seconds == 7
            assert record.train_seconds == 10 * epoch
            assert record.train_cpu_seconds == 19 * epoch
            assert record.eval_seconds == 6 + 3 * epoch
            assert record.wall_seconds == now - before
            speed = 500 / 10 if epoch else math.nan
            assert record.images_per_second == pytest.approx(speed, nan_ok=True)
            assert record.next_threads == training.threads.number
            assert record.slowdown == training.threads.slowdown
            now += 100  # the reader logs, draws, ...
        state = training.learner.training_state()
        now, cpu = now + 1000, cpu + 1000  # the pause


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
    assert last.epoch == 1
    scores = (last.train_loss, last.train_accuracy, last.test_loss, last.test_accuracy)
    assert np.isnan(scores).all()
    assert list(TrainingLoop(training.config, load("mnist"), last)) == []


def test_a_loss_that_is_not_finite_ends_the_training(small_data):
    config = config_of("mlp_torch", lr="1e30", activation="relu", epochs=5, device="cpu")
    epochs = list(TrainingLoop(config, load("mnist")))
    assert epochs[-1].diverged
    assert len(epochs) < 6
    assert not any(r.diverged for r in epochs[:-1])


@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_that_is_lost_or_counted_twice_is_noticed(split, more, small_data):
    training = TrainingLoop(config_of("mlp_torch", epochs=1, device="cpu"), load("mnist"))
    whole = training.learner.evaluate
    training.learner.evaluate = lambda scored: whole(scored)._replace(
        examples=training.images[scored] + more * (scored == split)
    )
    with pytest.raises(AssertionError, match=f"a {split}(ing)? image was left out"):
        list(training)
