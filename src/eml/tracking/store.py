"""Creates and opens the tracking store, and checks that it can be used."""

import logging
import re
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.store.artifact import artifact_repository_registry as repositories
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from eml.errors import UserError
from eml.tracking import calls
from eml.tracking.calls import StoreError, store_call

BUSY_SECONDS = 20  # time limit of SQLite's wait for a lock, as in MLflow
ABANDONED_SECONDS = 10  # after which an empty SQLite file is one that nobody fills
HEADER = 19  # bytes of an SQLite file; the last of them is 2 in WAL mode


def is_there() -> bool:
    """Whether the store exists: an SQLite file that is missing or empty does not."""
    file = calls.sqlite_file()
    return file is None or (file.exists() and (not file.is_file() or file.stat().st_size > 0))


def open_store(create: bool = True, others: Sequence[object] = ()) -> None:
    """Check that the store can be used, before any work begins.

    create: True creates a missing SQLite file, False refuses it unless there are `others`, which
    are read too. Raises StoreError if the store does not answer at once, if a file cannot be
    written or is no store, or if its schema is that of another version of MLflow.
    """
    # MLflow would log a traceback for errors that are reported in a line here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if not create and not is_there():
        if others:
            return
        raise StoreError(
            f"there is no store {calls.uri()}: give the command in the directory where you "
            "trained, or set MLFLOW_TRACKING_URI"
        )
    make_store()
    if file := calls.sqlite_file():
        check(file, calls.store_name())
    ask(mlflow.get_tracking_uri(), calls.store_name())


def ask(uri: str, name: str) -> None:
    """Raise StoreError if a store does not answer at once, or rejects the password.

    name: of the store in messages.
    """
    with calls.one_request(calls.SECONDS_TO_ANSWER):
        try:
            if re.split("[+:]", uri)[0] in {*DATABASE_ENGINES} - {"sqlite"}:
                # MLflow itself would retry for minutes.
                with sqlalchemy.create_engine(uri, poolclass=NullPool).connect() as connection:
                    check_schema(connection, name, made=False)
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # no driver
            raise StoreError(str(calls.failure(error, name))) from error


def make_store() -> None:
    """Create a missing SQLite file completely, or not at all.

    Several processes that create one file at once, or a process that is killed while it creates
    one, would break the file for good. Raises StoreError if the file cannot be written.
    """
    for scheme in ("", "file"):
        repositories._artifact_repository_registry.register(scheme, _Artifacts)
    file = calls.sqlite_file()
    if file is None or is_there():
        return
    file = file.resolve()
    work = file.with_name(f".{file.name}.new")  # a folder: SQLite keeps a journal beside the file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            shutil.rmtree(work, ignore_errors=True)  # left by a killed process
            if is_there():
                return
            if file.exists() and time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                file.unlink()
            work.mkdir()
            try:
                # By MLflow's client, so that artifacts get MLflow's default location.
                store_call(mlflow.MlflowClient)(sqlite_uri(work / file.name))
                # MLflow ignores our lock: it may have made the file, or begun with an empty one.
                if not file.exists():
                    (work / file.name).replace(file)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{calls.store_name()}: {error.strerror or error}") from error


class _Artifacts(LocalArtifactRepository):
    """MLflow's access to artifacts on this disk, also after the store's folder was moved."""

    def __init__(self, artifact_uri: str, *arguments: str | None, **options: str | None):
        super().__init__(artifact_uri, *arguments, **options)
        self._artifact_dir = str(place(Path(self._artifact_dir)))


def place(folder: Path) -> Path:
    """The folder of artifacts, or the one beside the store that has taken its place.

    MLflow stores absolute paths. Raises StoreError if the folder was moved, but not to the store.
    """
    file = calls.sqlite_file()
    if file is None or folder.exists() or "mlruns" not in folder.parts:
        return folder
    root = next(above for above in (folder, *folder.parents) if above.name == "mlruns")
    beside = file.parent / "mlruns"
    there = beside / folder.relative_to(root)
    if there.exists() or (beside.exists() and not root.exists()):
        return there
    if not root.parent.exists():
        raise StoreError(
            f"the artifacts are in {root}, a folder that is gone: move it to {beside}, "
            "or train in another experiment: MLFLOW_EXPERIMENT_NAME"
        )
    return folder


def sqlite_uri(file: Path) -> str:
    """The URI of a store in this file."""
    # Only what a URL cannot hold is escaped: MLflow would create a folder named like each escape.
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def check(file: Path, name: str) -> None:
    """Raise StoreError unless an SQLite file is a store of the installed MLflow's schema.

    MLflow itself fills a file that is no store, and upgrades some older stores without a copy.
    name: of the store in messages.
    """
    engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: _connect(file, "rw"), poolclass=NullPool
    )
    try:
        with engine.connect() as connection:
            check_schema(connection, name)
    except SQLAlchemyError as error:
        raise StoreError(f"{name}: {calls.reason_of(error)}") from error


def check_schema(connection: sqlalchemy.Connection, name: str, made: bool = True) -> None:
    """Raise StoreError if a database has another schema than that of the installed MLflow.

    made: False: MLflow may make its tables in a database that has no version yet.
    """
    tables = sqlalchemy.inspect(connection).get_table_names()
    query = sqlalchemy.text("SELECT * FROM alembic_version")
    rows = connection.execute(query).all() if "alembic_version" in tables else []
    versions, (newest, *older) = [str(row[0]) for row in rows], _revisions()
    if versions == [newest] or not (versions or made):
        return
    mlflow_, apart = f"MLflow than {version('mlflow')}", "give MLflow a database of its own"
    if not versions:
        why = "is no store of MLflow, or is not complete: if no other command is making it now, "
        why += "move it away"
    elif len(versions) > 1 or "experiments" not in tables:
        why = f"has the alembic_version of another program ({', '.join(versions)}): {apart}"
    elif versions[0] in older:
        why = f"was made by an older {mlflow_}: copy mlflow.db, then `mlflow db upgrade URI`"
    else:
        why = f"was made by a newer {mlflow_}: `pip install -U mlflow`; or another program has "
        why += f"its alembic_version there: {apart}"
    raise StoreError(f"{name} {why}")


@cache
def _revisions() -> list[str]:
    """The revisions of the schema that the installed MLflow knows, the newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(Path(mlflow.__file__).parent / "store" / "db_migrations")
    return [script.revision for script in scripts.walk_revisions()]


def back_up(file: Path, copy: Path, name: str) -> None:
    """Copy an SQLite file as its last finished write left it; write nothing beside it.

    Other processes may write to the file meanwhile. Raises StoreError if it cannot be read.
    """
    try:
        with file.open("rb") as content:
            in_wal_mode = content.read(HEADER)[-1:] == b"\2"
        # Opened in WAL mode, SQLite would make two files beside this one, and leave them there.
        idle = in_wal_mode and not file.with_name(f"{file.name}-wal").exists()
        mode = "ro&immutable=1" if idle else "ro"
        with closing(_connect(file, mode)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master")  # waits for a lock, not forever
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{name} cannot be read: {getattr(error, 'strerror', error)}") from error


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    """A connection to an SQLite file that exists, which waits for locks as MLflow does."""
    uri = f"file:{quote(str(file.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, timeout=BUSY_SECONDS, uri=True)


def refuse_if_local() -> None:
    """Raise UserError if the store is a local file, which several machines cannot write to."""
    address = mlflow.get_tracking_uri()
    if address.startswith(("sqlite", "file")) or "://" not in address:
        raise UserError(
            f"jobs on several nodes cannot write to {calls.uri()}, because the locks of "
            "a file do not hold across machines; start an `mlflow server` and set "
            "MLFLOW_TRACKING_URI to its address (docs/shared-store.md), or train in one job, which "
            "needs no server (docs/cluster.md)"
        )
