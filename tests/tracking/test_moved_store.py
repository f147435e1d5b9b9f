"""A store that was moved, has a deleted experiment, or is shared with another program."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
import sqlalchemy

from eml.tracking import store as stores
from eml.tracking.calls import StoreError
from eml.tracking.models import load_model
from support.commands import add_training, stored_runs


@pytest.mark.parametrize("kept", [True, False])
def test_artifacts_are_found_beside_a_store_that_was_moved(
    kept, small_data, store, eml, tmp_path, monkeypatch
):
    (tmp_path / "old").mkdir()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    store.create_experiment("mine", artifact_location=f"{tmp_path}/old/mlruns/2")
    assert eml("mlp_numpy", "--epochs", "1").returncode == 0
    run_id = store.search_runs(["2"])[0].info.run_id
    if kept:
        (tmp_path / "old").rename("new")
    else:
        shutil.rmtree("old")
        Path("new").mkdir()
    Path("mlflow.db").rename("new/mlflow.db")
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    for command in (["compare"], ["mlp_numpy", "--epochs", "2"]):
        result = eml(*command)
        if kept:
            assert result.returncode == 0, result.stderr
            assert f"{tmp_path}/old" not in result.stdout
        else:
            assert result.returncode == 2
            reason = f"artifacts are in {tmp_path}/old/mlruns, a folder that is gone: .*"
            assert re.search(reason + "MLFLOW_EXPERIMENT_NAME\n$", result.stderr), result.stderr
    assert not Path("old").exists()
    if kept:
        assert load_model(run_id).weights
        assert len(list(Path("new/mlruns").rglob("compare.html"))) == 3


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "INSERT INTO alembic_version VALUES ('0123456789ab')",
            "has the alembic_version of another program",
        ),
        ("UPDATE alembic_version SET version_num='x'; CREATE TABLE books(id)", "another program"),
        ("UPDATE alembic_version SET version_num='x'; DROP TABLE runs", "another program"),
        ("UPDATE alembic_version SET version_num='x'", "made by a newer MLflow"),
    ],
)
def test_a_database_of_another_program_is_said_in_a_line(statement, reason, store, eml, tmp_path):
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.executescript(statement)
    before = Path("mlflow.db").read_bytes()
    result = eml("compare")
    assert result.returncode == 2
    assert re.fullmatch(f"eml: the store sqlite.*{reason}.*\n", result.stderr), result.stderr
    # Of a database server the same is asked, before MLflow makes its tables there.
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/mlflow.db")
    with engine.connect() as opened, pytest.raises(StoreError, match=reason):
        stores.check_schema(opened, "it", made=False)
    assert Path("mlflow.db").read_bytes() == before


def test_a_deleted_experiment_is_said_in_a_line(store, eml):
    run_id = add_training(store)
    store.create_experiment("kept")
    store.delete_experiment("1")
    line = "eml: the experiment test is deleted: `mlflow experiments restore -x 1` brings it back, "
    for command in (["compare"], ["compare", "--runs", run_id], ["mlp_numpy"], ["gradients"]):
        result = eml(*command)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == line + "or give another MLFLOW_EXPERIMENT_NAME\n"
    store.restore_experiment("1")
    assert len(stored_runs(store)) == 1
