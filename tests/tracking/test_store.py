"""The first opening of a store, whatever ends it; and what is said of one that cannot be used."""

import os
import re
import resource
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from eml.analysis.options import Selection
from eml.machine import Stopped, raise_on_signals
from eml.tracking import find, store
from eml.tracking.calls import StoreError
from eml.tracking.history import load_history
from eml.tracking.runs import run
from eml.tracking.store import open_store
from support import commands
from support.commands import add_training, call, eml_command, stored_runs


@pytest.fixture
def no_store(tmp_path, environment, monkeypatch):
    """A working directory without a store, which is to be made there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    yield tmp_path
    mlflow.set_tracking_uri(None)


def in_child(action) -> int:
    """Do it in a child process; how that ended, as os.waitpid tells."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def interrupted(number: signal.Signals, statement: int) -> None:
    """Open the store, and get a signal after so many statements."""
    done = []

    def count(*_):
        done.append(1)
        if len(done) == statement:
            os.kill(os.getpid(), number)

    event.listen(Engine, "after_cursor_execute", count)
    raise_on_signals()
    try:
        open_store()
    except Stopped:
        os._exit(7)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    "points",
    [
        [(signal.SIGKILL, 150), (signal.SIGINT, 300)],
        pytest.param(
            [(s, n) for s in (signal.SIGKILL, signal.SIGINT) for n in range(1, 700, 60)],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_store_whose_making_is_interrupted_is_made_by_the_next(points, no_store, fault):
    fault("SIGKILL or SIGINT while a store is made", len(points))
    for number, statement in points:
        status = in_child(lambda n=number, at=statement: interrupted(n, at))
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            pytest.fail(f"statement {statement} was not reached")
        assert not Path("mlflow.db").exists()
    open_store()
    with run("r", "d", {}) as run_id:
        pass
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    assert {p.name for p in no_store.iterdir()} == {".mlflow.db.lock", "mlflow.db", "mlruns"}
    assert not mlflow.get_run(run_id).info.artifact_uri.endswith(".new")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_full_disk_while_a_store_is_made_leaves_nothing(no_store, fault):
    fault("disk full while a store is made")

    def fill_the_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            open_store()
        except StoreError:
            os._exit(7)

    assert os.WEXITSTATUS(in_child(fill_the_disk)) == 7
    assert sorted(p.name for p in no_store.iterdir()) == [".mlflow.db.lock"]
    open_store()


def test_to_look_makes_no_store(no_store, eml):
    result = eml("compare")
    assert result.returncode == 2
    assert result.stderr.startswith(f"eml: there is no store sqlite:///{no_store}/mlflow.db: ")
    result = eml("plan", "mlp_torch", "--subset", "100")
    assert result.returncode == 0, result.stderr
    assert "mlp sgd lr=0.1 seed=1 mlp_torch epochs=30 subset=100: 30 epochs to do" in result.stdout
    assert f"there is no store sqlite:///{no_store}/mlflow.db yet" in result.stdout
    result = eml("compare", "--experiment", "nix", "--stores", "http://127.0.0.1:9")
    assert not result.stderr.rstrip().endswith((":", "give", "of"))
    assert list(no_store.iterdir()) == []


@pytest.mark.parametrize("made", ["", "create table experiments (experiment_id integer)"])
def test_a_store_that_is_half_made_is_said_in_a_line(made, no_store, eml):
    """MLflow's SQLite file is empty until its first write. The file is left as it is."""
    with closing(sqlite3.connect("mlflow.db")) as connection, connection:
        connection.execute(made)
    Path("mlflow.db").touch()
    before = Path("mlflow.db").read_bytes()
    result = eml("mlp_numpy", "--epochs", "1")
    assert (result.returncode, result.stdout) == (2, "")
    reason = "is no store of MLflow, or is not complete: if no other command is making it "
    assert re.fullmatch(f"eml: the store sqlite:///.*{reason}.*\n", result.stderr), result.stderr
    assert Path("mlflow.db").read_bytes() == before


def test_what_cannot_be_written_is_said_in_a_line(store, environment, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "mlflow.db").chmod(0o555)
    tmp_path.chmod(0o555)  # the folder, for SQLite's journal
    try:
        command = eml_command("mlp_numpy", "--epochs", "1")
        result = call(commands.without_the_powers_of_root(command))
    finally:
        tmp_path.chmod(0o755)
    assert result.returncode == 2
    assert re.fullmatch("eml: the store .*readonly database.*\n", result.stderr), result.stderr


def test_artifacts_that_cannot_be_written_are_found_out_before_the_training(store, eml, tmp_path):
    (tmp_path / "mlruns").touch()
    result = eml("mlp_numpy", "--epochs", "1")
    assert result.returncode == 2
    assert re.fullmatch("eml: the store .*Not a directory: .*mlruns.*\n", result.stderr)
    assert "epoch 0" not in result.stdout
    (failed,) = stored_runs(store)
    assert failed.info.status == "FAILED"


def test_a_store_that_mlflow_has_made_meanwhile_is_left_as_it_is(
    no_store, fresh_store, monkeypatch
):
    """MLflow's own processes know nothing of eml's lock."""
    uri_of = store.sqlite_uri

    def meanwhile(file):
        theirs = mlflow.MlflowClient(f"sqlite:///{no_store / 'theirs.db'}")
        theirs.create_run("0", run_name="theirs")
        theirs._tracking_client.store.engine.dispose()
        (no_store / "theirs.db").rename(no_store / "mlflow.db")
        return uri_of(file)

    monkeypatch.setattr(store, "sqlite_uri", meanwhile)
    open_store()
    assert [r.info.run_name for r in mlflow.MlflowClient().search_runs(["0"])] == ["theirs"]


def test_an_empty_file_that_nobody_fills_becomes_a_store(no_store, caplog):
    caplog.set_level("INFO", "mlflow.store.db.utils")
    (no_store / "mlflow.db").touch()
    os.utime(no_store / "mlflow.db", (0, 0))
    open_store()
    assert find.search({}) == []
    assert not caplog.messages  # of MLflow, about its tables


def test_a_uri_of_sqlite_is_read(store, tmp_path):
    add_training(store)
    mlflow.set_tracking_uri(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")
    history, _ = load_history(Selection())
    assert history["epoch"].tolist() == [0, 1]


def test_the_first_digits_of_an_id_are_enough_unless_several_begin_with_them(store, eml, tmp_path):
    one, other = add_training(store), add_training(store, seed=2)
    assert load_history(Selection(runs=one[:8]))[0]["run_id"].unique().tolist() == [one]
    assert find.get(one[:8]).run_id == one
    assert eml("cancel", "00000000").stderr.startswith("eml: no run 00000000 in the store")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        alike = one[:8] + other[8:]
        connection.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (alike, other))
    with pytest.raises(StoreError, match=f"several runs begin with {one[:8]}: give one of"):
        find.get(one[:8])
