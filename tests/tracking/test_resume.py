"""A training that was killed goes on: one run, every epoch once, the numbers of an unbroken one."""

import itertools
import os
import random
import signal
import time

import numpy as np
import pytest

from eml.analysis.options import Selection
from eml.launchers import worker
from eml.launchers.base import Task
from eml.machine import SIGNALS, Stopped, raise_on_signals
from eml.models.optimizers import OPTIMIZERS
from eml.sweeps.request import Request
from eml.sweeps.status import status_of
from eml.tracking import find, log, runs
from eml.tracking.digests import training_digest
from eml.tracking.history import load_history
from eml.training import checkpoints
from eml.training.checkpoints import Checkpoint, Slot
from eml.training.loop import TrainingLoop, load_for
from eml.training.threads import Asked
from support.commands import arguments, call, config_of, mlflow_command, stored_runs, train
from support.interrupted import (
    SCORES,
    assert_whole,
    history_of,
    in_place_of_logging,
    killed_at_random,
    scores,
    stop_when,
)

LRS = "1,0.5,0.1,0.05,0.01"


@pytest.mark.parametrize(
    ("recipe", "optimizer", "dtype"),
    [
        *(("mlp_torch", name, "float32") for name in OPTIMIZERS),
        ("mlp_torch", "adam", "float64"),
        ("cifar_cnn", "adam", "float32"),
        pytest.param("cifar_cnn", "adam", "float64", marks=pytest.mark.slow),
    ],
)
def test_a_training_goes_on_bit_for_bit(recipe, optimizer, dtype, small_data):
    config = config_of(recipe, optimizer=optimizer, epochs=3, subset=100, dtype=dtype, device="cpu")
    dataset = load_for(config)
    whole = list(TrainingLoop(config, dataset))
    first = TrainingLoop(config, dataset)
    records = list(itertools.islice(first, 2))
    state = {name: value.copy() for name, value in first.learner.training_state().items()}
    records += TrainingLoop(config, dataset, records[-1], state)
    for name in ("epoch", *SCORES):
        assert [getattr(r, name) for r in records] == [getattr(r, name) for r in whole]


def test_a_checkpoint_is_read_as_it_was_written(small_data, monkeypatch, tmp_path):
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path))
    config = config_of("cifar_cnn", optimizer="adam", epochs=1, device="cpu")
    training = TrainingLoop(config, load_for(config))
    written = Checkpoint(list(training), training.learner.training_state())
    slot = Slot("digest", "run")
    assert slot.acquire()
    slot.save(written)
    read = slot.load()
    assert repr(read.records) == repr(written.records)  # repr: a NaN is not equal to itself
    assert read.state.keys() == written.state.keys()
    for name, value in written.state.items():
        np.testing.assert_array_equal(read.state[name], value, strict=True)


def test_a_checkpoint_is_replaced_whole_or_not_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path))
    slot = Slot("digest", "run")
    assert slot.acquire()
    slot.save(Checkpoint([], {"a": np.zeros(3)}))

    def half(state, file, metadata):
        file.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", half)
        with pytest.raises(OSError, match="disk full"):
            slot.save(Checkpoint([], {"a": np.ones(3)}))
    assert slot.load().state["a"].tolist() == [0, 0, 0]


def test_a_damaged_checkpoint_is_said_and_its_run_taken_over(
    small_data, store, monkeypatch, capsys, fault
):
    fault("checkpoint damaged", lost="its epochs, which are trained again in a new run")
    config = config_of("mlp_numpy", epochs=2)
    interrupt(monkeypatch, after=2, options={"epochs": 2})
    (killed,) = stored_runs(store)
    Slot(training_digest(config), killed.data.tags["checkpoint"]).file.write_bytes(b"no checkpoint")
    train("mlp_numpy", epochs=2)
    output = capsys.readouterr().out
    assert f"the checkpoint of run {killed.info.run_id} is damaged" in output
    assert f"epochs of run {killed.info.run_id} that its checkpoint lacks: 1." in output
    killed, fresh = stored_runs(store)
    assert killed.data.tags["continued_in"] == fresh.info.run_id
    assert_whole(store, fresh.info.run_id, 2)
    frame, left_out = load_history(Selection())
    assert frame["run_id"].unique().tolist() == [fresh.info.run_id]
    (line,) = left_out
    assert line.startswith(f"left out, interrupted and continued in {fresh.info.run_id}")
    assert not list(checkpoints.directory().rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_without_checkpoints_no_epoch_is_logged_twice(small_data, store, monkeypatch, capsys):
    """The disk is full from the first epoch on, and the process is killed."""
    save = Slot.save

    def full(slot, checkpoint):
        if checkpoint.records:
            raise OSError("no space left")
        save(slot, checkpoint)

    def kill(record, log):
        log()
        if record.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Slot, "save", full)
        in_place_of_logging(patch, kill)
        assert not killed_at_random(lambda: train("mlp_numpy", epochs=3), 60)
    train("mlp_numpy", epochs=3)
    before, fresh = stored_runs(store)
    assert before.data.tags["continued_in"] == fresh.info.run_id
    assert before.info.status == "KILLED"
    assert len(history_of(store, before.info.run_id)["train_loss"]) == 3
    assert_whole(store, fresh.info.run_id, 3)
    assert "that its checkpoint lacks: 3." in capsys.readouterr().out


def interrupt(monkeypatch, after: int, options: dict) -> None:
    """Train, and stop when so many records are kept, before the last one is logged."""
    stop_when(
        monkeypatch, lambda record: record.epoch == after - 1, lambda: train("mlp_numpy", **options)
    )


def test_eml_goes_on_in_the_interrupted_run(small_data, store, monkeypatch):
    """The clock does not hold the pause, and what the times depend on is not forgotten."""
    options = {"epochs": 3}
    monkeypatch.setattr("eml.models.numpy_mlp.cpu_name", lambda: "another CPU")
    interrupt(monkeypatch, after=3, options=options)
    (killed,) = stored_runs(store)
    assert killed.info.status == "KILLED"
    monkeypatch.setattr("eml.models.numpy_mlp.cpu_name", lambda: "this CPU")
    with monkeypatch.context() as patch:
        patch.setattr("eml.training.loop.perf_counter", lambda: time.perf_counter() + 1000)
        before = time.perf_counter()
        task = Task(config=config_of("mlp_numpy", **options), threads=Asked(at_once=2))
        worker.train(task)
    (run,) = stored_runs(store)
    assert run.data.metrics["wall_seconds"] < 100 + time.perf_counter() - before
    assert run.data.tags["hardware"] == "another CPU, this CPU"
    assert run.data.tags["trainings_at_once"] == "1, 2"
    assert run.info.run_id == killed.info.run_id
    assert run.info.status == "FINISHED"
    assert "stopped" not in run.data.tags
    assert len(run.inputs.dataset_inputs) == 1
    assert_whole(store, run.info.run_id, 3)
    train("mlp_numpy", **options, resume=False)
    _, unbroken = stored_runs(store)
    assert scores(store, run.info.run_id) == scores(store, unbroken.info.run_id)


def test_an_epoch_that_was_kept_but_not_logged_is_logged_before_the_next_process_takes_over(
    small_data, store, monkeypatch
):
    config = config_of("mlp_numpy", epochs=4)
    with runs.run("parent", "", {}) as parent:
        stop_when(
            monkeypatch,
            lambda record: record.epoch == 2,
            lambda: worker.train(Task(config=config, parent=parent)),
        )
        (run,) = [run for run in stored_runs(store) if run.info.run_id != parent]
        assert_whole(store, run.info.run_id, 1)
        worker.prepare(Task(config=config, parent=parent))
        assert store.get_run(run.info.run_id).info.status == "SCHEDULED"
        assert_whole(store, run.info.run_id, 2)
        worker.train(Task(config=config, parent=parent))
    assert_whole(store, run.info.run_id, 4)
    assert store.get_run(run.info.run_id).info.status == "FINISHED"


def test_what_nobody_took_up_for_a_month_is_deleted(small_data, store, monkeypatch):
    options = {"epochs": 2}
    interrupt(monkeypatch, after=2, options=options)
    (file,) = checkpoints.directory().rglob("*.safetensors")
    os.utime(file, (1, 1))
    train("mlp_numpy", **options)
    assert len(stored_runs(store)) == 2
    assert not file.exists()


def test_in_another_experiment_a_new_run_begins_with_a_copy(small_data, store, monkeypatch):
    options = {"epochs": 2}
    interrupt(monkeypatch, after=2, options=options)
    (killed,) = stored_runs(store)
    other = store.create_experiment("other", artifact_location=f"file://{os.getcwd()}/other")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    train("mlp_numpy", **options)
    (run,) = store.search_runs([other])
    assert_whole(store, run.info.run_id, 2)
    first = store.get_metric_history(killed.info.run_id, "test_loss")[0]
    assert store.get_metric_history(run.info.run_id, "test_loss")[0].timestamp == first.timestamp
    assert store.get_run(killed.info.run_id).data.tags == killed.data.tags


def test_times_compared_are_not_taken_from_elsewhere(small_data, store, monkeypatch):
    options = {"epochs": 2, "device": "cpu"}
    stop_when(monkeypatch, lambda record: record.epoch == 1, lambda: train("mlp_torch", **options))
    (killed,) = stored_runs(store)
    train("cpu_vs_gpu", epochs=2, devices="cpu")
    child = stored_runs(store)[-1]
    assert_whole(store, child.info.run_id, 2)
    first = store.get_metric_history(killed.info.run_id, "test_loss")[0]
    assert store.get_metric_history(child.info.run_id, "test_loss")[0].timestamp > first.timestamp


def test_a_fresh_start_supersedes_what_was_interrupted(small_data, store, monkeypatch):
    options = {"epochs": 2}
    interrupt(monkeypatch, after=2, options=options)
    train("mlp_numpy", **options, resume=False)
    killed, fresh = stored_runs(store)
    assert (killed.info.status, fresh.info.status) == ("KILLED", "FINISHED")
    assert_whole(store, fresh.info.run_id, 2)
    train("mlp_numpy", **options)
    assert len(stored_runs(store)) == 3
    assert not list(checkpoints.directory().rglob("*.safetensors"))


def test_a_signal_at_the_start_does_not_lose_what_is_taken_over(small_data, store, monkeypatch):
    options = {"epochs": 2}
    interrupt(monkeypatch, after=2, options=options)
    (killed,) = stored_runs(store)
    run = store.create_run(killed.info.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    take_over = runs._take_over

    def interrupted(old, new):
        take_over(old, new)
        os.kill(os.getpid(), signal.SIGTERM)

    former = {number: signal.getsignal(number) for number in SIGNALS}
    raise_on_signals()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_take_over", interrupted)
        with pytest.raises(Stopped):
            train("mlp_numpy", **options)
    for number, handler in former.items():
        signal.signal(number, handler)
    assert store.get_run(killed.info.run_id).data.tags["continued_in"] == run.info.run_id
    again = store.create_run(killed.info.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", again.info.run_id)
    train("mlp_numpy", **options)
    assert "MLFLOW_RUN_ID" not in os.environ
    assert store.get_run(again.info.run_id).info.status == "FINISHED"
    assert_whole(store, again.info.run_id, 2)


def test_the_furthest_of_several_interrupted_runs_goes_on(small_data, store, monkeypatch, capsys):
    """Also where it is a run of another experiment."""
    options = {"epochs": 5}
    for elsewhere in (False, True):
        interrupt(monkeypatch, after=4, options=options)
        *_, furthest = stored_runs(store)
        if elsewhere:
            monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
        interrupt(monkeypatch, after=2, options=options | {"resume": False})
        capsys.readouterr()
        train("mlp_numpy", **options)
        assert "goes on after epoch 3" in capsys.readouterr().out
        status = store.get_run(furthest.info.run_id).info.status
        assert status == ("KILLED" if elsewhere else "FINISHED")


@pytest.mark.parametrize(
    ("interrupted", "planned", "goes_on"),
    [
        (("mlp_numpy", {}), ("mlp_numpy", {}), True),
        (("mlp_numpy", {}), ("mlp_numpy", {"resume": False}), False),
        (("mlp_numpy", {}), ("lr_sweep", {}), True),
        (("lr_sweep", {"lrs": LRS}), ("lr_sweep", {"lrs": LRS}), True),
        (("mlp_torch", {"device": "cpu"}), ("cpu_vs_gpu", {"devices": "cpu"}), False),
    ],
)
def test_a_plan_counts_the_epochs_that_the_command_goes_on_with(
    interrupted, planned, goes_on, small_data, store, monkeypatch, capsys
):
    recipe, options = interrupted
    stop_when(monkeypatch, lambda r: r.epoch == 2, lambda: train(recipe, epochs=3, **options))
    recipe, options = planned
    status = status_of(Request.of(*arguments(recipe, epochs=3, **options)))
    capsys.readouterr()
    train(recipe, epochs=3, **options)
    assert sum(state.epochs for state in status.states.values()) == 2 * goes_on
    assert ("goes on after epoch 2" in capsys.readouterr().out) == goes_on


@pytest.mark.parametrize("recipe", ["mlp_numpy", "lr_sweep"])
def test_what_another_process_trains_is_not_trained_twice(
    recipe, small_data, store, eml, monkeypatch
):
    stop_when(monkeypatch, lambda r: r.epoch == 1, lambda: train(recipe, epochs=2))
    living, *_ = before = stored_runs(store)
    digest = living.data.tags.get("training_digest") or living.data.tags["plan_digest"]
    slot = Slot(digest, living.data.tags["checkpoint"])
    assert slot.acquire()
    result = eml(recipe, "--epochs", "2")
    assert result.returncode == 2
    refusal = f"eml: another process trains this already (run {living.info.run_id}): wait for "
    assert result.stderr.startswith(refusal)
    assert [r.to_dictionary() for r in stored_runs(store)] == [r.to_dictionary() for r in before]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
    assert eml(recipe, "--epochs", "2").returncode == 0
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    assert eml(recipe, "--epochs", "2", "--resume", "false").returncode == 0
    assert slot.load() is not None
    slot.release()


def test_mlflow_run_takes_over_the_history(small_data, store, environment, monkeypatch):
    interrupt(monkeypatch, after=2, options={"epochs": 3})
    result = call(mlflow_command("mlp_numpy", epochs=3))
    assert result.returncode == 0, result.stderr
    assert "goes on after epoch 1" in result.stdout
    killed, run = stored_runs(store)
    assert killed.data.tags["continued_in"] == run.info.run_id
    assert run.data.tags["continues"] == killed.info.run_id
    assert_whole(store, run.info.run_id, 3)
    # An epoch keeps the time at which it was over.
    first = store.get_metric_history(killed.info.run_id, "test_loss")
    assert store.get_metric_history(run.info.run_id, "test_loss")[0].timestamp == first[0].timestamp
    frame, left_out = load_history(Selection())
    assert frame["run_id"].unique().tolist() == [run.info.run_id]
    (line,) = left_out
    assert line.startswith(f"left out, interrupted and continued in {run.info.run_id}")


@pytest.mark.slow
def test_the_parent_of_a_sweep_that_mlflow_run_resumed_has_all_children(
    small_data, store, environment, monkeypatch
):
    options = {"epochs": 1, "lrs": "1,0.5,0.1,0.05,0.01"}
    log_result = log.log_result
    ended = []

    def stop(records):
        if len(ended) == 2:
            raise Stopped(signal.SIGTERM)
        ended.append(records)
        log_result(records)

    with monkeypatch.context() as patch:
        patch.setattr(log, "log_result", stop)
        with pytest.raises(Stopped):
            train("lr_sweep", **options)
    result = call(mlflow_command("lr_sweep", epochs=1, lrs=options["lrs"]))
    assert result.returncode == 0, result.stderr
    old = stored_runs(store)[0]
    new = store.get_run(old.data.tags["continued_in"])
    assert new.info.status == "FINISHED"
    assert len(find.children(new.info.run_id)) == 5
    assert find.children(old.info.run_id) == {}
    assert len(stored_runs(store)) == 7
    assert len(load_history(Selection())[0]) == 10


EPOCHS = 2000  # enough to be killed so often on the way
KILLS = 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_killed_at_random_points_it_is_one_whole_run(small_data, store, fault):
    fault("SIGKILL at a random point of a training", KILLS, "at most the epoch under way")
    options = {"epochs": EPOCHS, "subset": 100, "batch_size": 10}
    chance = random.Random(1)
    for _ in range(KILLS):
        assert not killed_at_random(
            lambda: train("mlp_numpy", **options), chance.uniform(0.05, 0.8)
        )
    train("mlp_numpy", **options)
    (run,) = stored_runs(store)
    assert run.info.status == "FINISHED"
    assert_whole(store, run.info.run_id, EPOCHS)
    config = config_of("mlp_numpy", **options)
    unbroken = list(TrainingLoop(config, load_for(config)))
    for name, points in scores(store, run.info.run_id).items():
        assert points == [(record.epoch, getattr(record, name)) for record in unbroken]
