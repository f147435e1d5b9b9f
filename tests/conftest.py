"""Fixtures: synthetic data, a store of its own for each test, commands as subprocesses."""

import os

# Before NumPy and PyTorch are imported, here and in subprocesses: two workers of pytest with two
# threads each would wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import shutil
import sys
import tarfile
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path

import mlflow
import mlflow.db
import pytest
import sqlalchemy
from click.testing import CliRunner
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.pool import NullPool

from eml.data import specs
from support import faults, servers, synthetic
from support.commands import ROOT, run_here


@pytest.fixture(scope="session")
def specs_file(tmp_path_factory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small_data(specs_file, monkeypatch) -> Path:
    """eml takes the synthetic datasets for the real ones; their cache folder."""
    monkeypatch.setenv("EML_DATA_DIR", str(specs_file.parent))
    for name, spec in synthetic.install(specs_file, specs.SPECS).items():
        monkeypatch.setitem(specs.SPECS, name, spec)
    return specs_file.parent


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory) -> Path:
    """An empty SQLite store; creating one takes seconds, copying it nothing."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{file}", str(file.parent / "mlruns")).engine.dispose()
    return file


@pytest.fixture
def store(fresh_store, tmp_path, monkeypatch):
    """A fresh store in the working directory, tmp_path, also for subprocesses; its client."""
    (tmp_path / "mlflow.db").write_bytes(fresh_store.read_bytes())
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    client.create_experiment("test", artifact_location=(tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    yield client
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def server(fresh_store, tmp_path_factory):
    """`mlflow server` on a store of its own, for many tests; its address and its folder."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(fresh_store.read_bytes())
    with servers.mlflow_server(f"sqlite:///{folder}/mlflow.db", folder / "artifacts") as address:
        yield address, folder


@pytest.fixture
def old_store(tmp_path) -> Path:
    """A folder with files of commit e471618: see tracking/test_old_store.py.

    The store gets the tables of this MLflow, as its owner has to do after an update.
    """
    with tarfile.open(ROOT / "tests/support/store_e471618.tar.xz") as archive:
        archive.extractall(tmp_path / "old", filter="data")
    arguments = ["upgrade", f"sqlite:///{tmp_path}/old/mlflow.db"]
    assert CliRunner().invoke(mlflow.db.commands, arguments).exit_code == 0
    return tmp_path / "old"


def _or_skip(why: servers.NotInstalled) -> None:
    """`.ci/run` has installed everything, so that there nothing may be missing."""
    if os.environ.get("EML_TEST_ALL_SERVICES"):
        raise why
    pytest.skip(str(why))


@pytest.fixture(scope="session")
def postgres():
    """The URI of a database of PostgreSQL that has MLflow's tables, and no runs."""
    with ExitStack() as stack:
        try:
            uri = stack.enter_context(servers.postgres())
        except servers.NotInstalled as why:
            _or_skip(why)
        _execute(uri, "CREATE DATABASE template")
        SqlAlchemyStore(
            uri.replace("/postgres", "/template"), "mlflow-artifacts:/"
        ).engine.dispose()
        yield uri


def _execute(uri: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(uri, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))


@pytest.fixture
def database(postgres, tmp_path) -> str:
    """A fresh store in PostgreSQL; its URI."""
    name = f"store_{uuid.uuid4().hex}"
    _execute(postgres, f"CREATE DATABASE {name} TEMPLATE template")
    return postgres.replace("/postgres", f"/{name}")


@pytest.fixture
def shared_store(database, tmp_path, monkeypatch):
    """`mlflow server` on a fresh store in PostgreSQL, also for subprocesses; its client."""
    with servers.mlflow_server(database, tmp_path / "served") as address:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow.set_tracking_uri(address)
        client = mlflow.MlflowClient(address)
        client.create_experiment("test")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
        monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
        yield client
        mlflow.set_tracking_uri(None)


@pytest.fixture
def slurm():
    """A Slurm of two nodes, without jobs; there is one for all workers of pytest."""
    with FileLock(Path(tempfile.gettempdir()) / "eml-test-slurm.lock"):
        try:
            servers.slurm()
        except servers.NotInstalled as why:
            _or_skip(why)
        yield


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium without a window, driven by Playwright."""
    program = shutil.which("chromium")
    if not program:
        _or_skip(servers.NotInstalled("there is no chromium here"))
    from playwright.sync_api import sync_playwright

    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    quiet += " --disable-background-networking --disable-component-update"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=quiet.split())
        yield chromium
        chromium.close()


@pytest.fixture
def on_path(monkeypatch):
    """`mlflow run --env-manager local` takes the python that is first on the PATH: this one."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def environment(specs_file, on_path, monkeypatch):
    """The variables with which a subprocess takes the synthetic data and this checkout."""
    paths = [ROOT / "tests/support/site", ROOT / "tests", ROOT / "src"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.setenv("EML_TEST_SPECS", str(specs_file))
    monkeypatch.setenv("EML_DATA_DIR", str(specs_file.parent))


@pytest.fixture
def eml(small_data):
    """Runs a command line of eml in this process, on the synthetic data."""
    return run_here


@pytest.fixture
def png_only(monkeypatch):
    """Drawing is slow, and what breaks a figure breaks it in every format."""
    save = Figure.savefig

    def savefig(figure, file, **options):
        if Path(file).suffix == ".png":
            save(figure, file, dpi=20)

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture
def fault(record_property):
    """Reports a fault that the test tries: its name, how often, and what is lost."""

    def report(name: str, tried: int = 1, lost: str = "nothing") -> None:
        record_property("fault", [name, tried, lost])

    return report


def pytest_addoption(parser):
    parser.addoption("--faults", type=Path, help="write the table of faults into this document")


def pytest_terminal_summary(terminalreporter, config):
    if document := config.getoption("faults"):
        stats = terminalreporter.stats
        faults.write(document, faults.table([*stats.get("passed", []), *stats.get("failed", [])]))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if {"slurm", "postgres", "browser"} & set(item.fixturenames):
            item.add_marker("services")
