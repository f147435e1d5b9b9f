"""Stores of other versions of MLflow, made by MLflow's own migrations."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from eml.tracking import schema
from eml.tracking.calls import StoreError
from support.commands import call, eml_command, stored_runs, train

MLFLOW_3_10 = "1b5f0d9ad7c1"  # the last revision that this version has
RUN = "0123456789abcdef0123456789abcdef"


def sql(file: Path, *statements: str) -> list:
    with closing(sqlite3.connect(file)) as connection, connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


@pytest.fixture
def old_store(tmp_path, monkeypatch) -> Path:
    """A store as MLflow 3.10 made it, with a run of two points."""
    file = tmp_path / "an old store.db"
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, MLFLOW_3_10)
    artifacts = (tmp_path / "mlruns").as_uri()
    sql(
        file,
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        f"VALUES (0, 'Default', '{artifacts}/0', 'active'), (1, 'test', '{artifacts}/1', 'active')",
        "INSERT INTO runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, "
        "artifact_uri, experiment_id, source_type, user_id) VALUES "
        f"('{RUN}', 'old', 'FINISHED', 1, 2, 'active', '{artifacts}/1/{RUN}', 1, 'LOCAL', 'me')",
        "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES "
        f"('{RUN}', 'test_loss', 0.5, 1, 0, 0), ('{RUN}', 'test_loss', 0.25, 2, 1, 0)",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    yield file
    mlflow.set_tracking_uri(None)


def test_an_older_store_is_named_upgraded_and_goes_on(old_store, eml, small_data):
    result = eml("compare")
    assert result.returncode == 2
    assert "was made by an older MLflow than" in result.stderr
    before = old_store.read_bytes()
    result = eml("store", "upgrade")
    assert result.returncode == 0, result.stderr
    copy = old_store.with_name(f"{old_store.name}.before-{MLFLOW_3_10}")
    assert f"is upgraded, with 1 runs, 2 points; as it was: {copy}\n" in result.stdout
    assert sql(copy, "SELECT version_num FROM alembic_version") == [(MLFLOW_3_10,)]
    assert sql(copy, "SELECT count(*) FROM metrics") == [(2,)]
    assert old_store.read_bytes() != before
    client = mlflow.MlflowClient()
    assert [p.value for p in client.get_metric_history(RUN, "test_loss")] == [0.5, 0.25]
    train("mlp_numpy", epochs=1)
    assert [run.info.status for run in stored_runs(client)] == ["FINISHED"] * 2


def test_a_store_of_this_version_is_left_as_it_is(store, eml, tmp_path):
    before = (tmp_path / "mlflow.db").read_bytes()
    result = eml("store", "upgrade")
    assert result.returncode == 0
    assert "is up to date: 0 runs, 0 points" in result.stdout
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert not list(tmp_path.glob("*before*"))


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(old_store, eml):
    # A migration after 3.10 makes this table.
    made = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    before = sql(old_store, made)
    sql(old_store, "CREATE TABLE issues (broken TEXT)")
    result = eml("store", "upgrade")
    assert result.returncode == 2
    assert "is as it was: its upgrade failed: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sql(old_store, made) == sorted([*before, ("issues",)])
    assert sql(old_store, "SELECT version_num FROM alembic_version") == [(MLFLOW_3_10,)]


@pytest.mark.parametrize(
    ("made_with", "needed"),
    [
        (["3.17.2", "3.100.0", "3.18.1"], "needs MLflow 3.100.0"),
        pytest.param([], "needs MLflow one newer than", marks=pytest.mark.slow),
    ],
)
def test_a_newer_store_is_refused_with_the_version_that_it_needs(
    made_with, needed, store, environment, tmp_path
):
    for number, version in enumerate(made_with):
        sql(
            tmp_path / "mlflow.db",
            f"INSERT INTO runs (run_uuid, experiment_id) VALUES ('{number}', 1)",
            f"INSERT INTO tags (run_uuid, key, value) VALUES ('{number}', 'mlflow', '{version}')",
        )
    sql(tmp_path / "mlflow.db", "UPDATE alembic_version SET version_num = 'f4a9b2c7d1e6'")
    before = (tmp_path / "mlflow.db").read_bytes()
    for arguments in (("compare",), ("store", "upgrade")):
        result = call(eml_command(*arguments))
        assert result.returncode == 2
        assert needed in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_copies_are_never_overwritten(tmp_path):
    (tmp_path / "mlflow.db.before-a").touch()
    assert schema._free_name(tmp_path / "mlflow.db", "a").name == "mlflow.db.before-a-1"


def test_what_is_no_sqlite_file_is_upgraded_elsewhere(monkeypatch, tmp_path, eml):
    for uri, line in (
        ("http://127.0.0.1:9", "give the command where the server's database is"),
        ("postgresql://127.0.0.1:9/a", "back it up with the tools of the database"),
        (f"sqlite:///{tmp_path}/none.db", "there is no such file"),
    ):
        mlflow.set_tracking_uri(uri)
        result = eml("store", "upgrade")
        mlflow.set_tracking_uri(None)
        assert result.returncode == 2
        assert line in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store_is_said(store, eml, tmp_path):
    (tmp_path / "mlflow.db").write_text("no database\n" * 1000)
    with pytest.raises(StoreError, match="file is not a database"):
        schema.upgrade_store()
