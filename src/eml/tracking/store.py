"""Creates and opens the tracking store, and checks that it can be used."""

import logging
import os
import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.rest_utils import http_request
from sqlalchemy.pool import NullPool

from eml.errors import UserError
from eml.text import printable
from eml.tracking import schema
from eml.tracking.calls import (
    SECONDS_TO_ANSWER,
    SECONDS_TO_CLOSE,
    StoreError,
    is_server,
    is_sqlite,
    sqlite_file,
    store_call,
    store_name,
    uri,
)

FILLING_SECONDS = 10  # a new SQLite file unchanged for so long is abandoned


def is_there() -> bool:
    """Whether the store exists: an SQLite file that is missing or empty does not."""
    file = sqlite_file()
    return file is None or (file.exists() and (not file.is_file() or file.stat().st_size > 0))


def open_store(create: bool = True) -> None:
    """Check that the store can be used, before any work begins.

    create: True creates a missing SQLite file, False refuses it.

    Raises StoreError if a server does not answer at once, if a file cannot be written, is half
    created or is no store, or if the schema is that of another version of MLflow.
    """
    # MLflow would log a traceback for errors that are reported in a line here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if is_server():
        _ask_server()
        return
    if not create and not is_there():
        raise StoreError(
            f"there is no store {uri()}: give the command in the directory where you trained, or "
            "set MLFLOW_TRACKING_URI"
        )
    make_store()
    _refuse_if_not_a_store()
    if file := sqlite_file():
        schema.refuse_other(file)
    _open()


@store_call(once=SECONDS_TO_CLOSE)
def _open() -> None:
    given = mlflow.get_tracking_uri()
    if given.partition(":")[0].partition("+")[0] in DATABASE_ENGINES and not is_sqlite():
        # MLflow itself would retry for minutes.
        try:
            sqlalchemy.create_engine(given, poolclass=NullPool).connect().close()
        except ImportError as error:  # the database driver is missing
            raise StoreError(f"{store_name()}: {error}") from error
    try:
        mlflow.MlflowClient().search_experiments(max_results=1)
    except PermissionError as error:
        raise StoreError(f"{store_name()}: {error}") from error


def make_store() -> None:
    """Create a missing SQLite file completely, or not at all.

    Several processes that create one file at once, or a process that is killed while it creates
    one, would break the file for good. Raises StoreError if the file cannot be written.
    """
    file = sqlite_file()
    if file is None or is_there():
        return
    try:
        _make(file.resolve())
    except OSError as error:
        raise StoreError(f"{store_name()}: {error.strerror or error}") from error


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        if is_there():
            return
        if file.exists() and time.time() - file.stat().st_mtime > FILLING_SECONDS:
            file.unlink()  # empty and abandoned
        # In a folder of its own, because SQLite keeps a journal beside the file.
        work = file.with_name(f".{file.name}.new")
        shutil.rmtree(work, ignore_errors=True)  # left by a killed process
        work.mkdir()
        try:
            _fill(work / file.name)
            try:
                os.link(work / file.name, file)
            except OSError:
                # MLflow, which ignores our lock, was faster; or this file system has no links.
                if not file.exists():
                    (work / file.name).replace(file)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@store_call(held=False)
def _fill(file: Path) -> None:
    # Through MLflow's client, so that artifacts get MLflow's default location.
    given = mlflow.get_tracking_uri()
    query = given.partition("?")[2]
    # Only what a URL cannot hold is escaped: MLflow would create a folder named like each escape.
    path = str(file).replace("%", "%25").replace("?", "%3F")
    client = mlflow.MlflowClient(f"sqlite:///{path}" + (f"?{query}" if query else ""))
    client._tracking_client.store.engine.dispose()


def _refuse_if_not_a_store() -> None:
    """Raise StoreError if the store is a file that MLflow has not created completely.

    MLflow writes the default experiment last. `mlflow run` creates its file in place, so wait
    while the file changes.
    """
    file = sqlite_file()
    if file is None:
        return
    if not file.is_file():
        raise StoreError(f"{store_name()}: this is no file")
    while not (experiments := _experiments(file)):
        if time.time() - file.stat().st_mtime > FILLING_SECONDS:
            lacks = "no experiment" if experiments == 0 else "no table of experiments"
            raise StoreError(
                f"{store_name()} has {lacks}: what made it was interrupted, or it is something "
                "else; move it away or delete it"
            )
        time.sleep(0.1)


def _experiments(file: Path) -> int | None:
    """Number of experiments in a file; None without their table. Raises StoreError."""
    try:
        with closing(schema.opened(file)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM experiments").fetchone()
            return count
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise StoreError(f"{store_name()}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{store_name()}: {error}") from error


def _ask_server() -> None:
    """Raise StoreError if the server does not answer at once, or rejects the password."""
    creds = mlflow.MlflowClient()._tracking_client.store.get_host_creds()
    try:
        answer = http_request(
            creds,
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=SECONDS_TO_ANSWER,
            raise_on_status=False,
        )
    except mlflow.MlflowException as error:
        raise StoreError(f"{store_name()} does not answer") from error
    if answer.status_code != 200:
        reason = printable(" ".join(answer.text.split()), 200)
        raise StoreError(f"{store_name()} answers with {answer.status_code}: {reason}")


def full_run_id(start: str) -> str:
    """The id of the only run whose id begins with `start`; `start` itself if there is none.

    Raises StoreError if several ids begin with it.
    """
    if not re.fullmatch("[0-9a-f]{4,31}", start):
        return start
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"attributes.run_id LIKE '{start}%'", max_results=5)
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found)
        raise StoreError(f"several runs begin with {start}: give one of {ids}")
    return found[0].info.run_id if found else start


def refuse_if_local() -> None:
    """Raise UserError if the store is a local file, which several machines cannot write to."""
    given = mlflow.get_tracking_uri()
    if given.startswith(("sqlite", "file")) or "://" not in given:
        raise UserError(
            f"jobs on several nodes cannot write to {uri()}, because the locks of "
            "a file do not hold across machines; start an `mlflow server` and set "
            "MLFLOW_TRACKING_URI to its address (docs/shared-store.md)"
        )
