"""Faults from outside: servers, disks, kills, clocks, paths. docs/reliability.md has the table."""

import shutil
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import mlflow
import pytest

from eml.analysis.options import Selection
from eml.errors import UserError
from eml.tracking.calls import StoreError
from eml.tracking.history import load_history
from eml.training import loop
from support import faults
from support.commands import call, eml_command, stored_runs, train
from support.interrupted import assert_whole, in_place_of_logging
from support.servers import free_port, mlflow_server

EPOCHS = 6


def whole(client, epochs: int = EPOCHS) -> None:
    """The newest run is finished and whole."""
    *_, run = stored_runs(client)
    assert run.info.status == "FINISHED"
    assert_whole(client, run.info.run_id, epochs)


@pytest.mark.slow
def test_a_server_is_stopped_until_after_the_last_epoch(
    small_data, fresh_store, tmp_path, monkeypatch, fault
):
    fault("server stopped until after the last epoch")
    (tmp_path / "mlflow.db").write_bytes(fresh_store.read_bytes())
    port = free_port()
    serving = (f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", port)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    with ExitStack() as first, ExitStack() as second:
        second.callback(mlflow.set_tracking_uri, None)
        mlflow.set_tracking_uri(first.enter_context(mlflow_server(*serving)))
        client = mlflow.MlflowClient()
        client.create_experiment("test")
        again = threading.Thread(target=second.enter_context, args=[mlflow_server(*serving)])

        def outage(record, log):
            if record.epoch == 2:
                first.close()
            log()
            if record.epoch == EPOCHS:  # while the command waits for it
                again.start()

        with monkeypatch.context() as patch:
            in_place_of_logging(patch, outage)
            train("mlp_numpy", epochs=EPOCHS)
        again.join()
        whole(client)
        assert len(stored_runs(client)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["store", "artifacts", "checkpoints"])
def test_a_disk_is_full_during_a_training(
    what, small_data, store, tmp_path, monkeypatch, capsys, fault
):
    fault(f"disk full for {what} during a training")
    small = tmp_path / {"artifacts": "mlruns"}.get(what, what)
    with faults.full_disk(small, kilobytes=0) as (fill, free):
        if what == "store":
            shutil.copy("mlflow.db", small)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{small}/mlflow.db")
            mlflow.set_tracking_uri(f"sqlite:///{small}/mlflow.db")

        def full(record, log):
            if record.epoch == 2:
                fill()
            log()

        with monkeypatch.context() as patch:
            in_place_of_logging(patch, full)
            if what == "checkpoints":  # the training does not need them
                train("mlp_numpy", epochs=EPOCHS)
                assert f"no checkpoint of epoch {EPOCHS}: " in capsys.readouterr().out
            else:
                with pytest.raises(StoreError) as raised:
                    train("mlp_numpy", epochs=EPOCHS)
                assert len(str(raised.value).splitlines()) == 1
                free()
        if what != "checkpoints":
            train("mlp_numpy", epochs=EPOCHS)
        whole(mlflow.MlflowClient())


@pytest.mark.slow
def test_a_disk_is_full_for_checkpoints_from_the_start(small_data, store, tmp_path, fault):
    fault("disk full for checkpoints before a training")
    with faults.full_disk(tmp_path / "checkpoints", kilobytes=0) as (fill, _):
        fill()
        with pytest.raises(UserError, match="no checkpoints can be kept in"):
            train("mlp_numpy", epochs=EPOCHS)
        assert not stored_runs(store)


def test_a_clock_jumps_back(small_data, store, monkeypatch, fault):
    fault("clock that jumps back an hour during a training")
    hour = 3600 * 10**9
    jumped = [0]

    def jump(record, log):
        log()
        if record.epoch == 2:
            jumped[0] = hour

    monkeypatch.setattr(loop, "time_ns", lambda: time.time_ns() - jumped[0])
    with monkeypatch.context() as patch:
        in_place_of_logging(patch, jump)
        train("mlp_numpy", epochs=EPOCHS)
    (run,) = stored_runs(store)
    for metric in ("test_loss", "train_seconds"):
        points = store.get_metric_history(run.info.run_id, metric)  # in the order of the clock
        points.sort(key=lambda point: point.step)
        assert [point.step for point in points] == list(range(EPOCHS + 1))
        assert points[2].timestamp > points[3].timestamp
    history, left_out = load_history(Selection())
    assert list(history["epoch"]) == list(range(EPOCHS + 1))
    assert history["train_seconds"].is_monotonic_increasing
    assert left_out == []


@pytest.mark.slow
def test_two_identical_commands_at_once(store, environment, fault):
    """They begin at the same moment: one trains, the other says so."""
    fault("two identical commands at once", 2, "nothing: the second says that the first trains")
    command = eml_command("mlp_numpy", "--epochs", "300", "--subset", "100")
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **output) for _ in range(2)]
    complaints = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    (run,) = stored_runs(store)
    assert f"another process trains this already (run {run.info.run_id})" in "".join(complaints)
    whole(store, 300)


@pytest.mark.slow
def test_a_path_with_odd_characters(environment, tmp_path, monkeypatch, fault):
    fault("store and checkpoints in a folder with blank, %, #, ?, umlaut")
    folder = tmp_path / "a b" / "50% c#d" / "e?f Übung"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(folder / "checkpoints"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for arguments in (("mlp_numpy", "--epochs", "1", "--subset", "100"), ("compare",)):
        result = call(eml_command(*arguments))
        assert result.returncode == 0, result.stderr
    assert (folder / "mlflow.db").is_file()
    assert len(list(folder.glob("mlruns/0/models/*/artifacts/weights.safetensors"))) == 1
    run_id = next(folder.glob("mlruns/0/*/artifacts/model")).parents[1].name
    load = f"from eml.tracking.models import load_model; load_model('{run_id}')"
    assert call([sys.executable, "-c", load]).returncode == 0
