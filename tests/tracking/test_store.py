"""The first opening of a store, whatever ends it; and what is said of one that cannot be used."""

import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from eml.analysis.options import Selection
from eml.machine import Stopped, raise_on_signals
from eml.tracking import store
from eml.tracking.calls import StoreError, sqlite_file
from eml.tracking.history import load_history
from eml.tracking.runs import run
from eml.tracking.store import open_store
from eml.tracking.stores import Stores
from support.commands import call, eml_command, mlflow_command, stored_runs, train


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
    # A checkout with changes has logged them as an artifact.
    assert {p.name for p in no_store.iterdir()} - {"mlruns"} == {".mlflow.db.lock", "mlflow.db"}
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


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("compare", 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("evaluate abc", 2), ("reap", 2), ("plan mlp_torch", 0))
        ),
    ],
)
def test_to_look_makes_no_store(command, code, no_store):
    short = ["--subset", "100"] if command.startswith("plan") else []
    result = call(eml_command(*command.split(), *short))
    assert result.returncode == code, result.stderr
    if code:
        assert result.stderr.startswith(f"eml: there is no store sqlite:///{no_store}/mlflow.db: ")
    else:
        assert "sgd lr=0.1 seed=1 mlp_torch epochs=30 subset=100: 30 epochs to do" in result.stdout
    assert list(no_store.iterdir()) == []


def of_another_schema(folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("update alembic_version set version_num = '451aebb31d03'")
    connection.close()


def half_made(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("create table experiments (experiment_id integer)")
    connection.close()
    os.utime(folder / "mlflow.db", (1, 1))


def something_else(folder: Path) -> None:
    (folder / "mlflow.db").write_text("no database\n" * 1000)


def a_folder(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    (folder / "mlflow.db").mkdir()


def below_a_file(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    (folder / "file").touch()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/file/mlflow.db"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            of_another_schema,
            "was made by an older MLflow than .*: copy mlflow.db, then `mlflow db upgrade URI`",
        ),
        (half_made, "has no experiment: what made it was interrupted, or it is something else; "),
        (something_else, "file is not a database"),
        (a_folder, "this is no file"),
        (below_a_file, "(Not a directory|File exists)"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_in_a_line(spoil, reason, store, environment, tmp_path):
    before = os.environ["MLFLOW_TRACKING_URI"]
    try:
        spoil(tmp_path)
        result = call(eml_command("mlp_numpy", "--epochs", "1"))
    finally:
        os.environ["MLFLOW_TRACKING_URI"] = before
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(f"eml: the store sqlite:///.*{reason}.*\n", result.stderr), result.stderr


def without_the_powers_of_root(command: list[str]) -> list[str]:
    """The command as somebody to whom the modes of files apply."""
    if os.geteuid() != 0:
        return command
    if not shutil.which("setpriv"):
        pytest.skip("root may write everything, and there is no setpriv (util-linux)")
    capability = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={capability}", f"--inh-caps={capability}", *command]


def test_what_cannot_be_written_is_said_in_a_line(small_data, store, environment, tmp_path):
    train("mlp_numpy", epochs=1)
    for name in ("mlflow.db", "."):  # the file, and the folder for SQLite's journal
        (tmp_path / name).chmod(0o555)
    try:
        command = without_the_powers_of_root(eml_command("mlp_numpy", "--epochs", "1"))
        result = call(command)
    finally:
        tmp_path.chmod(0o755)
    assert result.returncode == 2
    assert re.fullmatch("eml: the store .*readonly database.*\n", result.stderr), result.stderr


def test_a_directory_that_cannot_be_written_is_said_in_a_line(no_store):
    no_store.chmod(0o555)
    try:
        result = call(without_the_powers_of_root(eml_command("mlp_numpy", "--epochs", "1")))
    finally:
        no_store.chmod(0o755)
    assert result.returncode == 2
    assert re.fullmatch("eml: the store .*: Permission denied\n", result.stderr), result.stderr


def test_artifacts_that_cannot_be_written_are_found_out_before_the_training(
    store, environment, tmp_path
):
    (tmp_path / "mlruns").touch()
    result = call(eml_command("mlp_numpy", "--epochs", "1"))
    assert result.returncode == 2
    assert re.fullmatch("eml: artifacts cannot be written to .*mlruns.*\n", result.stderr)
    assert "epoch 0" not in result.stdout
    (failed,) = stored_runs(store)
    assert failed.info.status == "FAILED"


def test_the_first_digits_of_an_id_are_enough(small_data, store, eml):
    train("mlp_numpy", epochs=1)
    (one,) = stored_runs(store)
    result = eml("evaluate", one.info.run_id[:8])
    assert result.returncode == 0, result.stderr
    result = eml("compare", "--runs", one.info.run_id[:8], "--x", "epoch")
    assert result.returncode == 0, result.stderr
    result = eml("evaluate", "00000000")
    assert result.stderr.startswith("eml: no run 00000000 in the store")


def test_digits_that_several_ids_begin_with_are_refused(store, tmp_path):
    with run("r", "d", {}) as one, run("r", "d", {}, parent=one) as other:
        pass
    assert Stores().full_id(one[:8]) == one
    assert Stores().full_id("nix") == "nix"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        alike = one[:8] + other[8:]
        connection.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (alike, other))
    with pytest.raises(StoreError, match=f"several runs begin with {one[:8]}: give one of"):
        Stores().full_id(one[:8])


@pytest.mark.slow
def test_several_that_begin_at_once_share_one_store(no_store):
    program = "from eml.tracking.runs import run\nwith run('r', 'd', {}): pass"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert sqlite_file() == no_store / "mlflow.db"
    found = mlflow.MlflowClient().search_runs(["0"])
    assert [one.info.status for one in found] == ["FINISHED"] * 4


def test_a_store_that_mlflow_has_made_meanwhile_is_left_as_it_is(
    no_store, fresh_store, monkeypatch
):
    """MLflow's own processes know nothing of eml's lock."""
    fill = store._fill

    def slowly(file):
        fill(file)
        theirs = mlflow.MlflowClient(f"sqlite:///{no_store / 'theirs.db'}")
        theirs.create_run("0", run_name="theirs")
        theirs._tracking_client.store.engine.dispose()
        (no_store / "theirs.db").rename(no_store / "mlflow.db")

    monkeypatch.setattr(store, "_fill", slowly)
    open_store()
    found = mlflow.MlflowClient().search_runs(["0"])
    assert [one.info.run_name for one in found] == ["theirs"]


def test_a_uri_of_sqlite_is_read(small_data, store, tmp_path):
    train("mlp_numpy", epochs=1)
    mlflow.set_tracking_uri(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")
    history, _ = load_history(Selection())
    assert history["epoch"].tolist() == [0, 1]


@pytest.mark.slow
def test_mlflow_run_of_a_look_has_its_store(no_store):
    result = call(mlflow_command("compare"))
    assert "eml: no finished training in sqlite:///" in result.stderr
