"""The number of threads: chosen by measuring, changed after a slow epoch."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from eml.machine import THREAD_VARIABLES
from eml.training import threads
from eml.training.loop import TrainingLoop, load_for
from eml.training.threads import Asked, Threads
from support.commands import config_of


class FakeLearner:
    """A learner whose steps take the seconds of a table, on a clock that nothing else moves."""

    def __init__(self, seconds: dict[int, float]):
        self.seconds, self.now, self.cpu, self.number = seconds, 0.0, 0.0, 0
        self.weights = np.zeros(3)

    def use_threads(self, number):
        self.number = number

    def practise(self):
        self.now += self.seconds[self.number]
        self.cpu += self.seconds[1]
        self.weights += 1

    def training_state(self):
        return {"weights": self.weights}

    def load_training_state(self, state):
        self.weights[...] = state["weights"]


@pytest.fixture
def four_cores(monkeypatch):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)


def chosen(
    monkeypatch, one: float, four: float, asked=threads.CHOOSE, before=None
) -> tuple[Threads, FakeLearner]:
    """A choice where a step with one thread, and with four, takes so long."""
    learner = FakeLearner({1: one, 2: four, 4: four})
    monkeypatch.setattr(threads, "perf_counter", lambda: learner.now)
    monkeypatch.setattr(threads, "process_time", lambda: learner.cpu)
    config = config_of("mlp_numpy", batch_size=1)
    return Threads(learner, config, asked, before), learner


@pytest.mark.parametrize(("four", "number"), [(0.004, 4), (0.02, 1)])
def test_the_faster_number_is_taken(four, number, four_cores, monkeypatch):
    choice, learner = chosen(monkeypatch, 0.01, four)
    assert choice.number == learner.number == number
    np.testing.assert_array_equal(learner.weights, 0)  # what the measurement trained is undone


def test_a_given_number_stays(four_cores, monkeypatch):
    choice, learner = chosen(monkeypatch, 0.01, 0.02, Asked(4))
    choice.after_epoch(1, 100, seconds=50, cpu_seconds=1)
    assert choice.number == learner.number == 4
    assert choice.remark == (
        "something else has the processor: epoch 1 took 50.0 times as long as on an idle machine; "
        "threads=1 is probably faster"
    )


@pytest.mark.parametrize("name", THREAD_VARIABLES)
def test_a_variable_is_a_given_number_unless_one_is_given(name, four_cores, monkeypatch):
    monkeypatch.setenv(name, "2")
    assert chosen(monkeypatch, 0.01, 0.02)[0].number == 2
    assert chosen(monkeypatch, 0.01, 0.02, Asked(4))[0].number == 4
    monkeypatch.setenv(name, "many")
    assert chosen(monkeypatch, 0.01, 0.02)[0].number == 1


def test_trainings_at_once_share_the_cores(four_cores, monkeypatch):
    assert chosen(monkeypatch, 0.01, 0.004, Asked(at_once=2))[0].number == 2
    assert chosen(monkeypatch, 0.01, 0.004, Asked(at_once=9))[0].number == 1
    # They cannot wait for the first to choose where seconds are compared.
    assert chosen(monkeypatch, 0.01, 0.02, Asked(at_once=2, stay=True))[0].number == 2


def test_a_slow_epoch_makes_it_go_on_with_one_thread_once(four_cores, monkeypatch):
    choice, learner = chosen(monkeypatch, 0.01, 0.004)
    choice.after_epoch(1, 100, seconds=0.4, cpu_seconds=1)
    assert (choice.number, choice.slowdown, choice.remark) == (4, pytest.approx(1), "")
    learner.seconds[4] = 0.05
    choice.after_epoch(2, 100, seconds=5, cpu_seconds=1)
    assert choice.number == learner.number == 1
    assert choice.slowdown == pytest.approx(12.5)
    assert choice.remark == (
        "something else has the processor: epoch 2 took 12.5 times as long as on an idle machine; "
        "one thread from now on"
    )
    learner.seconds[4] = 0.004
    choice.after_epoch(3, 100, seconds=3, cpu_seconds=1)
    assert choice.number == 1
    assert choice.slowdown == 3  # one thread: the seconds over the CPU seconds
    assert choice.remark == ""  # once


def test_a_processor_that_became_slower_keeps_its_threads(four_cores, monkeypatch):
    choice, learner = chosen(monkeypatch, 0.01, 0.004)
    learner.seconds |= {1: 0.04, 4: 0.016}
    choice.after_epoch(1, 100, seconds=1.6, cpu_seconds=1)
    assert choice.number == learner.number == 4


def test_an_interrupted_training_goes_on_with_its_number(four_cores, monkeypatch):
    assert chosen(monkeypatch, 0.01, 0.02, before=2)[0].number == 2
    assert chosen(monkeypatch, 0.01, 0.004, before=1)[0].number == 1
    assert chosen(monkeypatch, 0.01, 0.004, before=64)[0].number == 4  # the cores that there are
    assert chosen(monkeypatch, 0.01, 0.004, Asked(1), before=4)[0].number == 1


def test_on_a_gpu_nothing_is_measured(four_cores, monkeypatch):
    learner = FakeLearner({})
    config = replace(config_of("mlp_torch", device="cpu"), device_type="cuda")
    choice = Threads(learner, config, Asked())
    choice.after_epoch(1, 100, seconds=5, cpu_seconds=1)
    assert (choice.number, choice.slowdown, learner.now) == (4, None, 0)


@pytest.mark.parametrize("recipe", ["mlp_numpy", "mlp_torch"])
def test_a_training_that_changed_its_threads_goes_on_to_the_last_digit(
    recipe, small_data, four_cores, monkeypatch
):
    after_epoch = Threads.after_epoch

    def slow_in_epoch_2(self, epoch, images, seconds, cpu_seconds):
        after_epoch(self, epoch, images, 100.0 if epoch == 2 else 1e-9, cpu_seconds)

    measure = Threads._one_is_faster
    monkeypatch.setattr(Threads, "after_epoch", slow_in_epoch_2)
    monkeypatch.setattr(Threads, "_one_is_faster", lambda self: measure(self) and False)
    monkeypatch.setattr(threads, "TURN_SECONDS", 1e-4)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)  # more than there are wait for a turn
    options = {"device": "cpu", "optimizer": "adam"} if recipe == "mlp_torch" else {}
    config = config_of(recipe, epochs=4, subset=100, **options)
    whole = list(TrainingLoop(config, load_for(config)))
    assert [record.next_threads for record in whole] == [2, 2, 1, 1, 1]
    for epoch in (1, 2, 3):
        broken = TrainingLoop(config, load_for(config))
        for record in itertools.islice(broken, epoch + 1):
            last = record
        state = {k: v.copy() for k, v in broken.learner.training_state().items()}
        rest = list(TrainingLoop(config, load_for(config), last, state))
        for ours, theirs in zip(rest, whole[epoch + 1 :], strict=True):
            assert (ours.train_loss, ours.test_loss) == (theirs.train_loss, theirs.test_loss)
            assert ours.next_threads == theirs.next_threads
