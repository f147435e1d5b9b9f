"""`eml import`: the runs of another store, with everything in them, once."""

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import pytest

from eml.tracking import import_runs
from eml.tracking.tags import IMPORTED_FROM, PARENT, REUSED
from support import servers
from support.commands import run_here, stored_runs, train


def other_store(tmp_path: Path, name: str, monkeypatch) -> str:
    """Use a new store from now on; its URI."""
    folder = tmp_path / name
    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    use(uri, monkeypatch)
    client = mlflow.MlflowClient(uri)
    client.create_experiment("test", artifact_location=(folder / "mlruns" / "1").as_uri())
    return uri


def use(uri: str, monkeypatch) -> None:
    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


def points(client, run) -> dict:
    return {
        key: [
            (p.timestamp, p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)
        ]
        for key in run.data.metrics
    }


def files(client, run_id: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    root = Path(client.download_artifacts(run_id, "", str(folder)))
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def models(client, run) -> dict[str, tuple]:
    """The logged models of a run by name: content, links and files."""
    found = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    outputs = {output.model_id: output.step for output in run.outputs.model_outputs}
    metrics = ("key", "value", "timestamp", "step", "dataset_name", "dataset_digest")
    return {
        model.name: (
            *(model.params, model.tags, model.model_type, model.status, outputs[model.model_id]),
            sorted(tuple(getattr(point, name) for name in metrics) for point in model.metrics),
            {file.name: file.read_bytes() for file in folder_of(model).iterdir()},
        )
        for model in found
    }


def folder_of(model) -> Path:
    return Path(unquote(urlsplit(model.artifact_location).path))


def imported(*arguments: str, code: int = 0) -> str:
    done = run_here("import", *arguments)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_copy_is_the_run_with_another_id(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    theirs = mlflow.MlflowClient(other_store(tmp_path, "laptop", monkeypatch))
    train("lr_sweep", epochs=2)
    train("mlp_numpy", epochs=1)
    use(here, monkeypatch)
    assert "mlflow.db: 8; there already: 0" in imported(str(tmp_path / "laptop"))
    copies = {run.data.tags[IMPORTED_FROM]: run for run in stored_runs(store)}
    originals = {run.info.run_id: run for run in stored_runs(theirs)}
    assert copies.keys() == originals.keys()
    new_ids = {old: run.info.run_id for old, run in copies.items()}
    for old, copy in copies.items():
        original = originals[old]
        for name in ("run_name", "status", "start_time", "end_time"):
            assert getattr(copy.info, name) == getattr(original.info, name)
        assert copy.data.params == original.data.params
        assert points(store, copy) == points(theirs, original)
        assert [i.dataset.digest for i in copy.inputs.dataset_inputs] == [
            i.dataset.digest for i in original.inputs.dataset_inputs
        ]
        expected = {
            k: v for k, v in original.data.tags.items() if k not in ("checkpoint", "creation")
        }
        if PARENT in expected:
            expected[PARENT] = new_ids[expected[PARENT]]
        assert copy.data.tags == expected | {IMPORTED_FROM: old}
        assert files(store, copy.info.run_id, tmp_path / f"new {old}") == files(
            theirs, old, tmp_path / f"old {old}"
        )
        assert models(store, copy) == models(theirs, original)
    assert "mlp_numpy_sgd_final" in models(store, copy)


def test_importing_again_adds_only_what_is_new(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    there = other_store(tmp_path, "laptop", monkeypatch)
    train("mlp_numpy", epochs=1)
    use(here, monkeypatch)
    assert "db: 1; " in imported(there)
    assert "db: 0; " in imported(there)
    use(there, monkeypatch)
    train("mlp_numpy", epochs=1, seed=2)
    # And back: the runs that came from there are known there.
    assert "db: 0; " in imported(here)
    use(here, monkeypatch)
    assert "db: 1; there already: 1" in imported(there)
    assert len(stored_runs(store)) == 2


@pytest.mark.slow
def test_ids_in_tags_are_those_of_the_copies(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    there = other_store(tmp_path, "laptop", monkeypatch)
    train("lr_sweep", epochs=1)
    train("lr_sweep", epochs=1, seeds="1,2")  # reuses the first
    use(here, monkeypatch)
    imported(there)
    runs = stored_runs(store)
    (reusing,) = [run for run in runs if REUSED in run.data.tags]
    reused = reusing.data.tags[REUSED].split(",")
    assert len(reused) == 6
    assert set(reused) <= {run.info.run_id for run in runs}


def test_unfinished_runs_are_not_copied(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    there = mlflow.MlflowClient(other_store(tmp_path, "laptop", monkeypatch))
    train("mlp_numpy", epochs=1)
    train("mlp_numpy", epochs=1, seed=2)
    newest = stored_runs(there)[-1].info.run_id
    there.update_run(newest, status="RUNNING")
    use(here, monkeypatch)
    assert "db: 1; " in imported(str(tmp_path / "laptop" / "mlflow.db"))


def test_an_interrupted_import_is_finished_by_the_next(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    there = other_store(tmp_path, "laptop", monkeypatch)
    train("mlp_numpy", epochs=1)
    train("mlp_numpy", epochs=1, seed=2)
    use(here, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_inputs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_runs.import_runs(there)
    assert [run.info.status for run in stored_runs(store)] == ["RUNNING"]
    assert "db: 2; " in imported(there)
    assert [run.info.status for run in stored_runs(store)] == ["FINISHED"] * 2


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_artifacts_of_a_store_that_was_moved(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    other_store(tmp_path, "laptop", monkeypatch)
    train("mlp_numpy", epochs=1)
    use(here, monkeypatch)
    shutil.move(tmp_path / "laptop", tmp_path / "stick")
    assert "without artifacts" not in imported(str(tmp_path / "stick"))
    (copy,) = stored_runs(store)
    assert "model" in {item.path for item in store.list_artifacts(copy.info.run_id)}


def test_artifacts_that_are_gone_are_said(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    other_store(tmp_path, "laptop", monkeypatch)
    train("mlp_numpy", epochs=1)
    use(here, monkeypatch)
    shutil.rmtree(tmp_path / "laptop" / "mlruns")
    printed = imported(str(tmp_path / "laptop"))
    assert "db: 1; " in printed
    assert "1 of them without artifacts" in printed


@pytest.mark.slow
def test_a_store_behind_a_server(store, small_data, tmp_path, monkeypatch):
    here = mlflow.get_tracking_uri()
    there = other_store(tmp_path, "cluster", monkeypatch)
    with servers.mlflow_server(there, tmp_path / "served") as address:
        use(address, monkeypatch)
        train("mlp_numpy", epochs=1)
        use(here, monkeypatch)
        assert "db: 1; " in imported(address)
    (copy,) = stored_runs(store)
    assert store.list_artifacts(copy.info.run_id)


def test_a_store_that_cannot_be_read_is_one_line(store, tmp_path):
    assert "there is no store" in imported(str(tmp_path / "none.db"), code=2)
    assert not (tmp_path / "none.db").exists()
    assert "is the store here: give another one" in imported(str(tmp_path), code=2)
    (tmp_path / "no.db").write_bytes(b"no database" * 100)
    line = imported(str(tmp_path / "no.db"), code=2)
    assert "no.db cannot be read: " in line
    assert line.count("\n") == 1
    assert "cannot be read" in imported("http://127.0.0.1:9", code=2)
