"""Stores of others: read together with the store here, and never changed."""

import base64
import hashlib
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from pandas.testing import assert_frame_equal

import eml as package
from eml.errors import UserError
from eml.tracking import find
from eml.tracking.find import Stores, open_others
from eml.tracking.tags import REUSED
from support import commands
from support.commands import add_training, call, run_here, stored_runs, train
from support.servers import Proxy

RATES = "1,0.5,0.1,0.05,0.01"
ODD_FOLDERS = ["a?mode=rw", "a%20b", "ä#'b c"]


def use(uri: str, monkeypatch) -> None:
    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.fixture
def ada(store, fresh_store, tmp_path) -> mlflow.MlflowClient:
    """The store of somebody else, in the folder ada; its client. Its experiments have other ids."""
    (tmp_path / "ada").mkdir()
    shutil.copy(fresh_store, tmp_path / "ada" / "mlflow.db")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/ada/mlflow.db")
    for name in ("other", "test"):
        client.create_experiment(name, artifact_location=(tmp_path / "ada/mlruns").as_uri())
    return client


@pytest.fixture
def sweep(ada, small_data, monkeypatch) -> list[str]:
    """An lr_sweep in that store: the ids of the parent and of its five trainings."""
    here = mlflow.get_tracking_uri()
    use(ada.tracking_uri, monkeypatch)
    train("lr_sweep", epochs=1, lrs=RATES)
    use(here, monkeypatch)
    return [run.info.run_id for run in stored_runs(ada)]


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refusal(*arguments: str) -> str:
    """The line with which a command refuses its arguments."""
    result = run_here(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_two_stores_are_read_as_one(ada, store, eml, tmp_path):
    theirs, ours = add_training(ada, seed=1), add_training(store, seed=2)
    before = contents(tmp_path / "ada")
    with pytest.raises(UserError, match=r"experiment=no: give one of .*other"):
        package.load_history(experiment="no", stores=["ada"])
    frame = package.load_history(stores=["ada/mlflow.db"])
    assert dict(frame[["run_id", "store"]].values) == {theirs: "ada/mlflow.db", ours: ""}
    assert frame["test_accuracy"].tolist() == [0.5] * 4
    result = eml("compare", "--stores", "ada, ./ada/mlflow.db", "--output", "out")
    assert result.returncode == 0, result.stderr
    assert "runs of ada: 1\n" in result.stdout
    assert theirs in (tmp_path / "out/history.csv").read_text()
    # Nothing is written beside their file either.
    assert contents(tmp_path / "ada") == before


def test_a_sweep_is_read_as_its_owner_reads_it(sweep, ada, eml, tmp_path, monkeypatch):
    theirs = package.load_history(recipe="lr_sweep", stores=["ada"])
    assert theirs["run_id"].unique().tolist() == sweep[1:]
    assert_frame_equal(package.load_history(runs=[sweep[0]], stores=["ada"]), theirs)
    use(f"sqlite:///{tmp_path}/none.db", monkeypatch)  # beside other stores it may be missing
    assert_frame_equal(package.load_history(recipe="lr_sweep", stores=["ada"]), theirs)
    assert not Path("none.db").exists()
    use(ada.tracking_uri, monkeypatch)
    own = package.load_history(recipe="lr_sweep")
    assert_frame_equal(theirs.drop(columns="store"), own.drop(columns="store"))


def test_a_run_in_two_stores_counts_once(ada, store, tmp_path):
    run_id = add_training(store)
    shutil.copy(tmp_path / "mlflow.db", "copy.db")
    stores = Stores(open_others(["copy.db", "ada"]))
    assert [(r.run_id, r.store) for r in stores.search({"recipe": "mlp_torch"})] == [(run_id, "")]
    store.delete_run(run_id)
    assert [r.store for r in stores.search({"recipe": "mlp_torch"})] == ["copy.db"]
    assert [(r.store, r.deleted) for r in stores.get([run_id])[0]] == [("copy.db", False)]


def test_a_sweep_here_reuses_what_is_finished_there(sweep, store, eml):
    planned = run_here("plan", "lr_sweep", "--epochs", "1", "--lrs", RATES, "--stores", "ada")
    assert planned.stdout.count(" of ada") == 5
    assert "all trainings are done" in planned.stdout
    train("lr_sweep", epochs=1, lrs=f"{RATES},0.001", stores="ada")
    parent, *trained = stored_runs(store)
    assert len(trained) == 1
    assert sorted(parent.data.tags[REUSED].split(",")) == sorted(sweep[1:])
    frame = package.load_history(stores=["ada"])
    assert sorted(frame["learning_rate"].unique()) == [0.001, 0.01, 0.05, 0.1, 0.5, 1]
    line = refusal("compare")
    assert "has reused runs that sqlite:///" in line
    assert "name their store as stores" in line


@pytest.mark.parametrize("mode", ["wal", pytest.param("delete", marks=pytest.mark.slow)])
def test_a_file_that_is_written_meanwhile(mode, ada, tmp_path):
    """What is finished counts, what is under way does not, and nothing of the file changes."""
    add_training(ada, seed=1)
    folder = tmp_path / "ada"
    with closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None)) as writer:
        writer.execute(f"PRAGMA journal_mode={mode}")
        writer.execute("UPDATE runs SET name = 'finished'")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE runs SET name = 'under way'")
        before = contents(folder)
        frame = package.load_history(stores=["ada"])
        assert frame["run_name"].unique().tolist() == ["finished"]
        after = contents(folder)  # but for SQLite's index of its log
        assert before | {"mlflow.db-shm": ""} == after | {"mlflow.db-shm": ""}
        writer.execute("ROLLBACK")
    before = contents(folder)
    assert list(before) == ["mlflow.db"]
    assert len(package.load_history(stores=["ada"])) == 2
    assert contents(folder) == before


@pytest.mark.parametrize("mode", ["wal", pytest.param("delete", marks=pytest.mark.slow)])
def test_what_cannot_be_written_is_read(mode, ada, store, environment, tmp_path):
    add_training(ada)
    with closing(sqlite3.connect("ada/mlflow.db")) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
    (tmp_path / "ada/mlflow.db").chmod(0o444)
    (tmp_path / "ada").chmod(0o555)
    try:
        command = commands.eml_command("compare", "--stores", "ada")
        command = commands.without_the_powers_of_root(command)
        result = call(command)
        (tmp_path / "ada/mlflow.db").chmod(0)
        refused = call(command)
    finally:
        (tmp_path / "ada").chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert refused.stderr == "eml: the store ada cannot be read: Permission denied\n"


@pytest.mark.parametrize("folder", ODD_FOLDERS)
def test_any_path_works(folder, ada, tmp_path):
    run_id = add_training(ada)
    (tmp_path / "ada").rename(folder)
    for name in (folder, f"{folder}/mlflow.db", str(tmp_path / folder)):
        frame = package.load_history(stores=[name])
        assert set(frame["run_id"]) == {run_id}
        assert set(frame["store"]) == {name}
    assert list(contents(tmp_path / folder)) == ["mlflow.db"]
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", folder}


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("451aebb31d03", r"was made by an older MLflow than [\d.]+: copy mlflow.db, then `mlflow"),
        ("0123456789ab", r"was made by a newer MLflow than [\d.]+: `pip install -U mlflow`"),
        ("", "cannot be read: file is not a database"),
    ],
)
def test_a_file_that_is_no_store_of_this_mlflow_is_a_line(
    version, reason, ada, store, eml, tmp_path
):
    file = tmp_path / "ada" / "mlflow.db"
    if version:
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(f"UPDATE alembic_version SET version_num = '{version}'")
    else:
        file.write_bytes(b"no database" * 1000)
    os.utime(file, (1, 1))
    before, runs = contents(tmp_path / "ada"), len(stored_runs(store))
    for command in (("compare",), ("lr_sweep",)):
        line = refusal(*command, "--stores", "ada/mlflow.db")
        assert line.startswith("eml: the store ada/mlflow.db ")
        assert re.search(reason, line), line
    assert contents(tmp_path / "ada") == before
    assert len(stored_runs(store)) == runs


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.db", "there is no store none.db: give an mlflow.db, its folder, or the address of"),
        (".", "there is no store"),
        ("postgresql://me:secret@host/a", "there is no store postgresql://host/a: give"),
        ("http://me:secret@127.0.0.1:9", "the tracking server http://127.0.0.1:9 does not answer"),
    ],
)
def test_what_is_no_store_is_a_line(name, reason, store, eml, tmp_path):
    (tmp_path / "mlflow.db").rename("here.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/here.db")
    line = refusal("compare", "--stores", name)
    assert reason in line
    assert "secret" not in line
    assert [path.name for path in tmp_path.iterdir()] == ["here.db"]


def test_a_server_is_read_with_a_password_or_refuses_in_a_line(store, server, eml):
    address, folder = server
    theirs = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    theirs.create_experiment("test")
    run_id = add_training(theirs)
    with Proxy(address) as proxy:
        proxy.asks_for = "Basic " + base64.b64encode(b"ada:se/cret").decode()
        line = refusal("compare", "--stores", proxy.address)
        assert line.startswith(f"eml: the tracking server {proxy.address}: ")
        assert "error code 401" in line
        named = proxy.address.replace("://", "://ada:se%2Fcret@")
        result = eml("compare", "--stores", named, "--output", "out")
        assert result.returncode == 0, result.stderr
        assert f"runs of {proxy.address}: 1\n" in result.stdout
        history = Path("out/history.csv").read_text()
        assert run_id in history
        assert "cret" not in history + result.stdout
        others = open_others([named])
        proxy.behave = "fail"
        with pytest.raises(UserError, match=f"the store {proxy.address} cannot be read"):
            find.search({"recipe": "mlp_torch"}, others)


def test_the_copy_of_a_file_is_deleted(ada, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    others = open_others(["ada"])
    (folder,) = (tmp_path / "temporary").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    (tmp_path / "ada/mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError):
        open_others(["ada"])
    del others
    assert not list((tmp_path / "temporary").iterdir())
