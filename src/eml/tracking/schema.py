"""Stores of other versions of MLflow: named in a line, and upgraded from older ones."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import mlflow

from eml.errors import UserError
from eml.text import printable
from eml.tracking.calls import StoreError, for_other_processes, is_server, sqlite_file, store_name

BUSY_SECONDS = 20  # time limit of SQLite's wait for a lock, as in MLflow
TABLES = {"runs": "runs", "metrics": "points"}  # of MLflow, with what a row is


def upgrade_store() -> None:
    """Back an older SQLite store up beside it, and upgrade its schema; nothing gets lost.

    Raises StoreError if it is newer than the installed MLflow, or cannot be upgraded: then it is as
    it was.
    """
    file = sqlite_file()
    if file is None:
        if is_server():
            raise UserError(f"{store_name()}: give the command where the server's database is")
        raise UserError(
            f"{store_name()}: back it up with the tools of the database, then `mlflow db upgrade`"
        )
    if not file.is_file():
        raise StoreError(f"{store_name()}: there is no such file")
    before = _revision(file)
    _refuse_newer(file, before)
    counted = _counted(file)
    backup = _free_name(file, before)
    with closing(opened(file)) as store, closing(sqlite3.connect(backup)) as copy:
        store.backup(copy)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", mlflow.get_tracking_uri()],
        capture_output=True,
        text=True,
        env=os.environ | for_other_processes(),
    )
    after = _counted(file) if done.returncode == 0 else {}
    if any(after.get(name, -1) < counted[name] for name in counted):
        with closing(opened(file)) as store, closing(opened(backup)) as copy:
            copy.backup(store)
        reason = (done.stderr.strip().splitlines() or ["runs or points are missing"])[-1]
        raise StoreError(printable(f"{store_name()} is as it was: its upgrade failed: {reason}"))
    held = ", ".join(f"{after[name]} {name}" for name in after)
    if _revision(file) == before:
        backup.unlink()
        print(f"{store_name()} is up to date: {held}")
    else:
        print(f"{store_name()} is upgraded, with {held}; as it was: {backup}")


def opened(file: Path) -> sqlite3.Connection:
    """A connection to an SQLite file that exists, which waits for locks as MLflow does."""
    return sqlite3.connect(f"file:{quote(str(file))}?mode=rw", BUSY_SECONDS, uri=True)


def refuse_other(file: Path) -> None:
    """Raise StoreError if another version of MLflow made an SQLite store.

    MLflow itself upgrades some older stores without a word and without a copy.
    """
    found = _revision(file)
    if found != _known()[0]:
        _refuse_newer(file, found)
        raise StoreError(
            f"{store_name()} was made by an older MLflow than {version('mlflow')}: `eml store "
            "upgrade` keeps a copy of it and upgrades it"
        )


def _refuse_newer(file: Path, revision: str) -> None:
    """Raise StoreError if the installed MLflow does not know the schema of a store."""
    if revision not in _known():
        needed = _newest_version(file) or f"one newer than {version('mlflow')}"
        raise StoreError(
            f"{store_name()} needs MLflow {needed}: `pip install -U mlflow` (installed is "
            f"{version('mlflow')})"
        )


@cache
def _known() -> list[str]:
    """The revisions of the schema that the installed MLflow knows, the newest first."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    return [script.revision for script in scripts.walk_revisions()]


def _revision(file: Path) -> str:
    return str(_one(file, "SELECT version_num FROM alembic_version"))


def _counted(file: Path) -> dict[str, int]:
    """The number of runs and of points."""
    return {
        name: int(str(_one(file, f"SELECT count(*) FROM {table}")))
        for table, name in TABLES.items()
    }


def _newest_version(file: Path) -> str:
    """The newest MLflow that a run of the store was made with, or ""."""
    query = "SELECT DISTINCT value FROM tags WHERE key = 'mlflow'"
    with closing(opened(file)) as store:
        found = [str(value) for (value,) in store.execute(query)]
    return printable(max(found, key=_parts, default=""), 30)


def _parts(text: str) -> list[int]:
    return [int(part) for part in text.split(".") if part.isdecimal()]


def _one(file: Path, query: str) -> object:
    try:
        with closing(opened(file)) as store:
            row = store.execute(query).fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{store_name()}: {error}") from error
    return row[0] if row else None


def _free_name(file: Path, revision: str) -> Path:
    """A name beside the store for its copy; an older copy is never overwritten."""
    number = 0
    while True:
        ending = f"before-{revision}" + (f"-{number}" if number else "")
        backup = file.with_name(f"{file.name}.{ending}")
        if not backup.exists():
            return backup
        number += 1
