"""The gate for every call to the tracking store: waits for a server, protects SQLite writes."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import mlflow
import requests
from mlflow import environment_variables as variables
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from eml.errors import UserError, printable
from eml.machine import environment, signals_held

SECONDS_TO_ANSWER = 20  # time limit of a request to a server
SECONDS_TO_CLOSE = 3  # time limit of the call that ends a stopped or failed run
PATIENCE = 60  # seconds to wait for a store that does not answer
PAUSES = 0.5, 10.0  # seconds between two tries: the first, the longest
# With any other code the server has understood the request and refuses it.
PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}

P = ParamSpec("P")
R = TypeVar("R")


class StoreError(UserError):
    """The store cannot be used; the message says which store, and why."""


class StoreAwayError(StoreError):
    """The store does not answer; the same command can continue when the store answers again."""

    exit_code = 1


def uri() -> str:
    """The store's URI, for people: without a password."""
    return printable(mlflow.get_tracking_uri())


def store_name() -> str:
    """The name of the store in messages."""
    return f"the tracking server {uri()}" if is_server() else f"the store {uri()}"


def for_other_processes() -> dict[str, str]:
    """Environment variables that make another process use the same store."""
    return {variables.MLFLOW_TRACKING_URI.name: mlflow.get_tracking_uri()}


def is_server(uri: str = "") -> bool:
    """Whether the store, by default the active one, is an `mlflow server`."""
    return (uri or mlflow.get_tracking_uri()).startswith(("http://", "https://"))


def is_sqlite() -> bool:
    """Whether the store is an SQLite file."""
    return mlflow.get_tracking_uri().startswith("sqlite")


def sqlite_file() -> Path | None:
    """The file of an SQLite store; None for any other store, and for a `file:` URI of SQLite."""
    database = make_url(mlflow.get_tracking_uri()).database if is_sqlite() else None
    # SQLite itself opens "file:...?mode=ro"; that file has to exist.
    return None if not database or database.startswith("file:") else Path(database).absolute()


def store_call(function: Callable[P, R], seconds: int = 0) -> Callable[P, R]:
    """Decorator of a function that reads from the store or writes to it.

    While a server does not answer, or SQLite is locked, prints a line and repeats the whole
    function for PATIENCE seconds, so calling the function twice must have the same effect as
    calling it once. A signal ends the wait.

    seconds: in place of PATIENCE and of SECONDS_TO_ANSWER; a server is asked once. 0 for none.

    Raises StoreAwayError if the store does not answer, StoreError if it refuses the call, or if
    artifacts cannot be written.
    """

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        end, pause, waited = time.monotonic() + (seconds or PATIENCE), PAUSES[0], False
        while True:
            try:
                # An exception in the middle of a write keeps SQLite's lock as long as the traceback
                # lives, and then the run cannot be closed. Other stores complete such a write.
                with signals_held() if is_sqlite() else nullcontext(), one_request(seconds):
                    answer = function(*arguments, **options)
                break
            except (MlflowException, SQLAlchemyError, OSError) as error:
                failed, left = failure(error, store_name()), end - time.monotonic()
                once = seconds and not is_sqlite()
                if once or left <= 0 or not isinstance(failed, StoreAwayError):
                    raise failed from error
            if not (waited or seconds):
                print(f"{failed}: waiting for it, {left:.0f} s at most", flush=True)
            waited = True
            time.sleep(min(pause, left))
            pause = min(2 * pause, PAUSES[1])
        if waited and not seconds:
            print(f"{store_name()} answers again", flush=True)
        return answer

    return call


def one_request(seconds: int = 0) -> AbstractContextManager[None]:
    """A context in which MLflow sends each request to a server once, with this time limit.

    MLflow prints neither links, of each nested run, nor progress bars: eml prints where a run is.
    """
    limits = {
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.name: "0",
        variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name: "true",
        variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name: "false",
    }
    limit = variables.MLFLOW_HTTP_REQUEST_TIMEOUT.name
    if seconds or limit not in os.environ:
        limits[limit] = str(seconds or SECONDS_TO_ANSWER)
    return environment(limits)


def failure(error: Exception, name: str) -> StoreError:
    """The error of a store with this name for an error of MLflow, a database or the disk."""
    if _is_away(error):
        return StoreAwayError(f"{name} does not answer")
    return StoreError(printable(f"{name}: {reason_of(error)}"))


def reason_of(error: Exception) -> str:
    """The first line of the database's own message: MLflow and SQLAlchemy describe their code."""
    database = error if isinstance(error, SQLAlchemyError) else error.__cause__
    return str(getattr(database, "orig", None) or error).strip().partition("\n")[0]


def _is_away(error: Exception) -> bool:
    """Whether a repeated call may succeed."""
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    # MLflow raises one exception for every failed request; its context is the cause.
    if any(isinstance(e, requests.RequestException) for e in (error, error.__context__)):
        return True
    if is_sqlite():
        return "database is locked" in str(error)
    return isinstance(error, MlflowException) and error.error_code in PASSING
