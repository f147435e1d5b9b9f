"""Trainings that are stopped or killed on their way, and what has to hold of them afterwards."""

import os
import signal
import time
from collections.abc import Callable

import pytest
from mlflow import MlflowClient

from eml.machine import Stopped, raise_on_signals
from eml.tracking.history import METRICS
from eml.tracking.log import Delivery
from eml.training.loop import EpochRecord

# Called in place of logging an epoch, with the record and what logs it.
InPlaceOfLogging = Callable[[EpochRecord, Callable[[], None]], None]

SCORES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]


def history_of(store: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """All points of a run by metric, as they were logged."""
    return {
        metric: [(point.step, point.value) for point in store.get_metric_history(run_id, metric)]
        for metric in METRICS
    }


def scores(store: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    return {name: points for name, points in history_of(store, run_id).items() if name in SCORES}


def assert_whole(store: MlflowClient, run_id: str, epochs: int) -> None:
    """Every epoch is there once, and the clocks never go back."""
    history = history_of(store, run_id)
    clocks = ("train_seconds", "train_cpu_seconds", "eval_seconds", "wall_seconds")
    for metric in (*SCORES, *clocks):
        assert [step for step, _ in history[metric]] == list(range(epochs + 1))
    for clock in clocks:
        values = [value for _, value in history[clock]]
        assert values == sorted(values)
    assert len(history["setup_seconds"]) == 1
    for once in ("best_epoch", "best_test_accuracy", "final_test_accuracy"):
        assert len(store.get_metric_history(run_id, once)) <= 1


def in_place_of_logging(patch: pytest.MonkeyPatch, what: InPlaceOfLogging) -> None:
    """Call what(record, log) for each epoch; log() logs it."""
    offer = Delivery.offer

    def called(delivery: Delivery, record: EpochRecord) -> None:
        what(record, lambda: offer(delivery, record))

    patch.setattr(Delivery, "offer", called)


def stop_when(
    monkeypatch: pytest.MonkeyPatch,
    condition: Callable[[EpochRecord], bool],
    action: Callable[[], object],
) -> None:
    """Do it, and stop before a record is logged that meets the condition."""

    def stop(record: EpochRecord, log: Callable[[], None]) -> None:
        if condition(record):
            raise Stopped(signal.SIGTERM)
        log()

    with monkeypatch.context() as patch:
        in_place_of_logging(patch, stop)
        with pytest.raises(Stopped):
            action()


def killed_at_random(action: Callable[[], object], seconds: float) -> bool:
    """Do it in a child process, killed after so many seconds; whether it ended before."""
    # A fork: the imports are there already.
    child = os.fork()
    if child == 0:
        try:
            raise_on_signals()
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status in (0, signal.SIGKILL)
            return status == 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
