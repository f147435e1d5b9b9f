"""Runs that nobody runs any more are ended, runs that somebody runs are not."""

import os
import signal

import pytest

from eml.tracking.reap import end_dead
from eml.training.checkpoints import Slot
from support.commands import stored_runs, train
from support.interrupted import assert_whole, in_place_of_logging, killed_at_random

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def killed(recipe, options, monkeypatch) -> None:
    """Train in a child process, which is killed once it has logged its second epoch."""

    def kill(record, log):
        log()
        if record.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        in_place_of_logging(patch, kill)
        assert not killed_at_random(lambda: train(recipe, **options), 60)


def test_any_command_ends_what_is_dead_and_the_same_one_goes_on(
    small_data, store, eml, monkeypatch
):
    options = {"epochs": 3}
    killed("mlp_numpy", options, monkeypatch)
    (dead,) = stored_runs(store)
    assert dead.info.status == "RUNNING"
    result = eml("compare", "--recipe", "mlp_numpy")
    assert f"run {dead.info.run_id}: its process is gone, so it is KILLED now" in result.stdout
    (dead,) = stored_runs(store)
    assert dead.info.status == "KILLED"
    assert dead.data.tags["stopped"].startswith("its process is gone, noticed at 20")
    train("mlp_numpy", **options)
    (run,) = stored_runs(store)
    assert (run.info.run_id, run.info.status) == (dead.info.run_id, "FINISHED")
    assert "stopped" not in run.data.tags
    assert_whole(store, run.info.run_id, 3)


def test_a_dead_sweep_is_ended_with_its_training(small_data, store, monkeypatch):
    killed("lr_sweep", {"epochs": 2, "lrs": "1,0.5,0.1,0.05,0.01"}, monkeypatch)
    assert [run.info.status for run in stored_runs(store)] == ["RUNNING"] * 2
    assert {run.run_id for run in end_dead()} == {run.info.run_id for run in stored_runs(store)}
    assert [run.info.status for run in stored_runs(store)] == ["KILLED"] * 2


def test_what_lives_or_is_not_here_is_left(small_data, store, monkeypatch):
    """Its process holds the lock; a job of Slurm has it; its checkpoint is on another machine."""
    killed("mlp_numpy", {"epochs": 3}, monkeypatch)
    (run,) = stored_runs(store)
    slot = Slot(run.data.tags["training_digest"], run.data.tags["checkpoint"])
    assert slot.acquire()
    assert end_dead() == []
    slot.release()
    store.set_tag(run.info.run_id, "slurm_job", "7")
    assert end_dead() == []
    store.delete_tag(run.info.run_id, "slurm_job")
    moved = slot.file.rename(slot.file.with_suffix(".elsewhere"))
    assert end_dead() == []
    store.set_tag(run.info.run_id, "checkpoint", "../../outside")
    assert end_dead() == []
    store.set_tag(run.info.run_id, "checkpoint", slot.name)
    moved.rename(slot.file)
    assert [one.run_id for one in end_dead()] == [run.info.run_id]
