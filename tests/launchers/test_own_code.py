"""A user's own code in other processes: what has changed is refused, an error ends one training."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from eml.launchers import worker
from eml.launchers.base import Task
from eml.launchers.local import Workers
from eml.sweeps.launch import LaunchError
from support.commands import call, config_of, mlflow_command, train
from support.own_code import TRACE, files_of_traceback, plain, trainings

LRS = "1,0.5,0.1,0.05,0.01"


CHANGED = r"own\.py has changed since it was submitted"


def changed_after_submission(folder: Path) -> tuple[Task, Path]:
    """A task whose file has become another one, and the trace that it leaves if executed."""
    path, trace = plain(folder), folder / "trace"
    config = config_of("mlp_numpy", epochs=1, code=path)
    plain(folder, before=TRACE.format(str(trace)))
    return Task(config=config, code=path), trace


@pytest.mark.parametrize("probe", [False, True])
def test_a_file_that_has_changed_since_is_refused_and_not_executed(
    probe, small_data, store, tmp_path
):
    task, trace = changed_after_submission(tmp_path)
    result = worker.perform(replace(task, probe=probe))
    assert re.search(CHANGED, result.reason)
    assert not trace.exists()
    assert [run.info.status for run in trainings(store)] == ([] if probe else ["FAILED"])
    # The same without the file's digest: the trace is one.
    config = config_of("mlp_numpy", epochs=1, code=task.code)
    assert worker.perform(replace(task, config=config, probe=probe)).reason == ""
    assert trace.exists()


def test_a_file_that_changes_while_its_training_begins_is_never_logged_for_another(
    small_data, store, tmp_path
):
    path = plain(tmp_path, "Path(__file__).write_text('')", "from pathlib import Path\n")
    config = config_of("mlp_numpy", epochs=1, code=path)
    worker.perform(Task(config=config, code=path))
    (run,) = trainings(store)
    for logged in store.list_artifacts(run.info.run_id, "code"):
        content = Path(store.download_artifacts(run.info.run_id, logged.path)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == config.code_sha256


@pytest.mark.slow
def test_a_worker_refuses_a_file_that_has_changed_since(small_data, store, environment, tmp_path):
    task, trace = changed_after_submission(tmp_path)
    with Workers(jobs=2) as workers:
        (result,) = workers.run([task])
    assert re.search(CHANGED, result.reason)
    assert not trace.exists()


@pytest.mark.slow
def test_two_workers_train_it(small_data, store, environment, tmp_path, eml):
    path = plain(tmp_path)
    sweep = ("lr_sweep", "--epochs", "1", "--lrs", LRS, "--code", path)
    result = eml(*sweep, "--jobs", "2")
    assert result.returncode == 0, result.stderr
    runs = trainings(store)
    assert {run.data.params["code_sha256"] for run in runs} == {
        config_of("mlp_numpy", code=path).code_sha256
    }
    assert [run.info.status for run in runs] == ["FINISHED"] * 5
    for run in runs:
        assert store.list_artifacts(run.info.run_id, "code")[0].path == "code/own.py"
    assert "already done" in eml(*sweep).stdout


@pytest.mark.parametrize("jobs", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_ends_one_training_of_a_sweep(
    jobs, small_data, store, environment, tmp_path, capfd
):
    path = plain(tmp_path, "if learning_rate == 0.05: raise ValueError('no such rate')")
    local = {"launcher": "local", "jobs": str(jobs)} if jobs else {}
    with pytest.raises(LaunchError, match=r"own\.py, line \d+: ValueError: no such rate"):
        train("lr_sweep", epochs=1, lrs=LRS, code=path, **local)
    statuses = {r.data.params["learning_rate"]: r.info.status for r in trainings(store)}
    assert statuses == dict.fromkeys(map(str, map(float, LRS.split(","))), "FINISHED") | {
        "0.05": "FAILED"
    }
    assert set(files_of_traceback(capfd.readouterr().err)) == {path}


@pytest.mark.slow
def test_through_mlflow_run(small_data, store, environment, tmp_path):
    path = plain(tmp_path)
    result = call(mlflow_command("mlp_numpy", epochs=1, code=path))
    assert result.returncode == 0, result.stderr
    (run,) = trainings(store)
    assert run.info.status == "FINISHED"
    assert run.data.params["code"] == path
    assert run.data.params["code_sha256"] == config_of("mlp_numpy", code=path).code_sha256
    assert store.list_artifacts(run.info.run_id, "code")[0].path == "code/own.py"


@pytest.mark.slow
def test_a_relative_path_through_mlflow_run_is_refused(small_data, store, environment, tmp_path):
    """The command of an entry point works in the project's folder."""
    plain(tmp_path)
    result = call(mlflow_command("mlp_numpy", epochs=1, code="own.py"))
    assert result.returncode == 1
    (line,) = (x for x in result.stderr.splitlines() if x.startswith("eml: "))
    assert "with `mlflow run` by its absolute path" in line
    assert trainings(store) == []
