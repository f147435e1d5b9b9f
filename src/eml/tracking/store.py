"""Creates and opens the tracking store, and checks that it can be used."""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import mlflow
import sqlalchemy
from filelock import FileLock
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.rest_utils import http_request
from sqlalchemy.pool import NullPool

from eml.errors import UserError, printable
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
        ask_server(mlflow.MlflowClient(), store_name())
        return
    if not create and not is_there():
        raise StoreError(
            f"there is no store {uri()}: give the command in the directory where you trained, or "
            "set MLFLOW_TRACKING_URI"
        )
    make_store()
    if file := sqlite_file():
        schema.check(file, store_name())
    _open()


def open_to_read(others: Sequence) -> None:
    """Check the store here before a read; beside stores of others it may be missing."""
    if is_there() or not others:
        open_store(create=False)


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
        if file.exists() and time.time() - file.stat().st_mtime > schema.FILLING_SECONDS:
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
    query = mlflow.get_tracking_uri().partition("?")[2]
    client = mlflow.MlflowClient(sqlite_uri(file) + (f"?{query}" if query else ""))
    client._tracking_client.store.engine.dispose()


def sqlite_uri(file: Path) -> str:
    """The URI of a store in this file."""
    # Only what a URL cannot hold is escaped: MLflow would create a folder named like each escape.
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def ask_server(client: mlflow.MlflowClient, name: str) -> None:
    """Raise StoreError if a server does not answer at once, or rejects the password."""
    try:
        answer = http_request(
            client._tracking_client.store.get_host_creds(),
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=SECONDS_TO_ANSWER,
            raise_on_status=False,
        )
    except mlflow.MlflowException as error:
        raise StoreError(f"{name} does not answer") from error
    if answer.status_code != 200:
        reason = printable(" ".join(answer.text.split()), 200)
        raise StoreError(f"{name} answers with {answer.status_code}: {reason}")


def refuse_if_local() -> None:
    """Raise UserError if the store is a local file, which several machines cannot write to."""
    given = mlflow.get_tracking_uri()
    if given.startswith(("sqlite", "file")) or "://" not in given:
        raise UserError(
            f"jobs on several nodes cannot write to {uri()}, because the locks of "
            "a file do not hold across machines; start an `mlflow server` and set "
            "MLFLOW_TRACKING_URI to its address (docs/shared-store.md)"
        )
