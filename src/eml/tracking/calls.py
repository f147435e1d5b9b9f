"""The gate for every call to the tracking store: waits for a server, protects SQLite writes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, overload

import mlflow
import requests
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_TRACKING_URI,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from eml.errors import UserError, printable
from eml.machine import environment, signals_held

SECONDS_TO_ANSWER = 20  # time limit of a request to a server
SECONDS_TO_CLOSE = 3  # time limit of the request that ends a stopped or failed run
PATIENCE = 60  # seconds to wait for a server that does not answer
PAUSES = 0.5, 10.0  # seconds between two tries: the first, the longest
LOCKED_SECONDS = 2  # pause before the second try, if SQLite reports a lock at once
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


def for_other_processes() -> dict[str, str]:
    """Environment variables that make another process use the same store."""
    return {MLFLOW_TRACKING_URI.name: mlflow.get_tracking_uri()}


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


def undisturbed():
    """A context that holds signals back if the store is SQLite.

    An exception in the middle of a write keeps SQLite's lock as long as the traceback lives, and
    then the run cannot be closed. Other databases complete a write that has reached them.
    """
    return signals_held() if is_sqlite() else nullcontext()


@overload
def store_call(function: Callable[P, R]) -> Callable[P, R]: ...


@overload
def store_call(
    *, once: int = 0, held: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def store_call(function=None, *, once=0, held=True):
    """Decorator of a function that reads from the store or writes to it.

    A request to a server has SECONDS_TO_ANSWER; MLflow does not repeat it. While the server does
    not answer, the decorator prints a line and repeats the whole function for PATIENCE seconds,
    so calling the function twice must have the same effect as calling it once. A signal ends the
    wait.

    once: time limit in seconds of a single try; 0 waits as described. held: False lets a signal
    interrupt SQLite (see undisturbed); use it for a long read that no write follows.

    Raises StoreAwayError if the store does not answer, StoreError if it refuses the call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            with undisturbed() if held else nullcontext():
                return _until_it_answers(lambda: function(*arguments, **options), once)

        return call

    return decorate(function) if function else decorate


def _until_it_answers(call: Callable[[], R], once: int) -> R:
    began, pause = time.monotonic(), PAUSES[0]
    waited = False
    while True:
        try:
            answer = _one_try(call, once)
        except StoreAwayError as error:
            left = (0 if once else PATIENCE) - (time.monotonic() - began)
            if left <= 0:
                raise
            if not waited:
                print(f"{error}: waiting for it, {left:.0f} s at most", flush=True)
            waited = True
            time.sleep(min(pause, left))
            pause = min(2 * pause, PAUSES[1])
        else:
            if waited:
                print(f"{store_name()} answers again", flush=True)
            return answer


def _one_try(call: Callable[[], R], once: int) -> R:
    limits = {MLFLOW_HTTP_REQUEST_MAX_RETRIES.name: "0"}
    if once or not MLFLOW_HTTP_REQUEST_TIMEOUT.is_set():
        limits[MLFLOW_HTTP_REQUEST_TIMEOUT.name] = str(once or SECONDS_TO_ANSWER)
    with environment(limits):
        try:
            return _unless_locked(call)
        except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
            if _is_away(error):
                raise StoreAwayError(f"{store_name()} does not answer") from error
            raise StoreError(printable(f"{store_name()}: {reason_of(error)}")) from error


def reason_of(error: Exception) -> str:
    """The first line of the database's own message: MLflow and SQLAlchemy describe their code."""
    database = error if isinstance(error, SQLAlchemyError) else error.__cause__
    return str(getattr(database, "orig", None) or error).strip().partition("\n")[0]


def _unless_locked(call: Callable[[], R]) -> R:
    """Make the call, and make it again if SQLite reports a lock at once.

    SQLite does so while it rolls back what a killed process had half written.
    """
    try:
        return call()
    except MlflowException as error:
        if "database is locked" not in str(error):
            raise
    time.sleep(LOCKED_SECONDS)
    return call()


def _is_away(error: Exception) -> bool:
    """Whether a repeated call may succeed."""
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, requests.RequestException):
        return True
    if not isinstance(error, MlflowException) or is_sqlite():
        return False
    # MLflow raises one exception for every failed request; its context is the cause.
    return error.error_code in PASSING or isinstance(error.__context__, requests.RequestException)


@contextmanager
def writing_artifacts(where: str) -> Iterator[None]:
    """A context, inside a store_call, that raises StoreError if artifacts cannot be written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise  # a failed request, which store_call handles
        raise StoreError(printable(f"artifacts cannot be written to {where}: {error}")) from error


def store_name() -> str:
    """The name of the store in messages."""
    return f"the tracking server {uri()}" if is_server() else f"the store {uri()}"
