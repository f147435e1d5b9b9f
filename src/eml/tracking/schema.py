"""The SQLite file of a store: whether it is one, and whether the installed MLflow knows its schema.

MLflow itself fills a file that is no store, and upgrades some older stores without a copy.
"""

import os
import sqlite3
import time
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from eml.errors import printable
from eml.tracking.calls import StoreError

BUSY_SECONDS = 20  # time limit of SQLite's wait for a lock, as in MLflow
FILLING_SECONDS = 10  # a new SQLite file unchanged for so long is abandoned
HEADER = 19  # bytes of an SQLite file; the last of them is 2 in WAL mode


def check(file: Path, name: str) -> None:
    """Raise StoreError unless a file is a whole store of the installed MLflow's schema.

    name: of the store in messages.
    """
    _refuse_if_not_a_store(file, name)
    rows = _rows(file, name, "SELECT version_num FROM alembic_version")
    if not rows:
        raise StoreError(f"{name} has no version of MLflow's schema: it is something else")
    ((revision,),) = rows
    if revision not in _known():
        needed = _newest_version(file, name) or f"one newer than {version('mlflow')}"
        raise StoreError(
            f"{name} needs MLflow {needed}: `pip install -U mlflow` (installed is "
            f"{version('mlflow')})"
        )
    if revision != _known()[0]:
        raise StoreError(
            f"{name} was made by an older MLflow than {version('mlflow')}: copy mlflow.db, then "
            "`mlflow db upgrade URI`"
        )


def back_up(file: Path, copy: Path, name: str) -> None:
    """Copy an SQLite file as its last finished write left it; writes nothing beside it.

    Other processes may write to the file meanwhile. Raises StoreError if it cannot be read.
    """
    try:
        with file.open("rb") as content:
            in_wal_mode = content.read(HEADER)[-1:] == b"\2"
        # Opened in WAL mode, SQLite would make two files beside this one, and leave them there.
        idle = in_wal_mode and not file.with_name(f"{file.name}-wal").exists()
        mode = "ro&immutable=1" if idle else "ro"
        with closing(opened(file, mode)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("BEGIN")
            source.execute(
                "SELECT count(*) FROM sqlite_master"
            )  # waits for a lock, but not forever
            source.backup(target)
        os.utime(copy, (0, file.stat().st_mtime))
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{name} cannot be read: {reason}") from error


def opened(file: Path, mode: str = "rw") -> sqlite3.Connection:
    """A connection to an SQLite file that exists, which waits for locks as MLflow does."""
    uri = f"file:{quote(str(file.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, BUSY_SECONDS, uri=True)


def _refuse_if_not_a_store(file: Path, name: str) -> None:
    """Raise StoreError if MLflow has not created a file completely.

    MLflow writes the default experiment last. `mlflow run` creates its file in place, so wait
    while the file changes.
    """
    if not file.is_file():
        raise StoreError(f"{name}: this is no file")
    query = "SELECT count(*) FROM experiments"
    while (experiments := _rows(file, name, query)) in ([], [(0,)]):
        if time.time() - file.stat().st_mtime > FILLING_SECONDS:
            lacks = "no experiment" if experiments else "no table of experiments"
            raise StoreError(
                f"{name} has {lacks}: what made it was interrupted, or it is something else; move "
                "it away or delete it"
            )
        time.sleep(0.1)


def _rows(file: Path, name: str, query: str) -> list[tuple]:
    """The rows of a query; [] without the table."""
    try:
        with closing(opened(file)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return []
        raise StoreError(f"{name}: {error}") from error


@cache
def _known() -> list[str]:
    """The revisions of the schema that the installed MLflow knows, the newest first."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    return [script.revision for script in scripts.walk_revisions()]


def _newest_version(file: Path, name: str) -> str:
    """The newest MLflow that a run of the store was made with, or ""."""
    versions = _rows(file, name, "SELECT DISTINCT value FROM tags WHERE key = 'mlflow'")
    return printable(max((str(text) for (text,) in versions), key=_parts, default=""), 30)


def _parts(text: str) -> list[int]:
    return [int(part) for part in text.split(".") if part.isdecimal()]
