"""How every call to the tracking store is made: patient with a server, whole on SQLite."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path

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

from eml.environment import environment
from eml.errors import UserError
from eml.interrupts import signals_held
from eml.text import printable

SECONDS_TO_ANSWER = 20  # that a server has for a request
SECONDS_TO_CLOSE = 3  # and for the one that ends a run which was stopped or has failed
PATIENCE = 300  # seconds in which a server may not answer before waiting for it is given up
PAUSES = 0.5, 10.0  # seconds between two tries: at first, at most
LOCKED_SECONDS = 2  # until SQLite is asked again that says at once that it is locked
# Other codes mean that the server has understood, and refuses.
PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}


class StoreError(UserError):
    """The store cannot be used; the message says which store, and why."""


class StoreAwayError(StoreError):
    """The store does not answer; what was begun can go on when it does."""

    exit_code = 1


def uri() -> str:
    """The store's URI, for people: without a password."""
    return printable(mlflow.get_tracking_uri())


def for_other_processes() -> dict[str, str]:
    """The environment variables with which another process uses the same store."""
    return {MLFLOW_TRACKING_URI.name: mlflow.get_tracking_uri()}


def is_server() -> bool:
    """Whether the store is an `mlflow server`."""
    return mlflow.get_tracking_uri().startswith(("http://", "https://"))


def is_sqlite() -> bool:
    """Whether the store is an SQLite file."""
    return mlflow.get_tracking_uri().startswith("sqlite")


def sqlite_file() -> Path | None:
    """The file of an SQLite store; None if the store is of another kind, or SQLite's own URI."""
    database = make_url(mlflow.get_tracking_uri()).database if is_sqlite() else None
    # "file:...?mode=ro" is SQLite's business: it has to be there.
    return None if not database or database.startswith("file:") else Path(database).absolute()


def undisturbed():
    """A context in which signals wait, if the store is SQLite.

    A write that an exception leaves in the middle keeps SQLite's lock for as long as the traceback
    lives, and closing the run fails on it. Other databases finish what they were asked for.
    """
    return signals_held() if is_sqlite() else nullcontext()


def store_call(function: Callable | None = None, *, patient: bool = True, held: bool = True):
    """Decorator of a function that reads from the store or writes to it.

    A server has SECONDS_TO_ANSWER for a request, which MLflow does not repeat. While the server
    does not answer, the whole function is repeated, after a line that says so, for PATIENCE
    seconds; so it must be as good done twice as done once. A signal ends the waiting.

    patient: False gives a server one try, of SECONDS_TO_CLOSE. held: False lets a signal interrupt
    SQLite, too (see undisturbed), for a long read after which nothing is written.

    Raises StoreAwayError if the store does not answer, StoreError for all else that it refuses.
    """
    if function is None:
        return lambda function: store_call(function, patient=patient, held=held)

    @wraps(function)
    def call(*arguments, **options):
        with undisturbed() if held else nullcontext():
            return _until_it_answers(lambda: function(*arguments, **options), patient)

    return call


def _until_it_answers(call: Callable, patient: bool):
    began, pause = time.monotonic(), PAUSES[0]
    waited = False
    while True:
        try:
            answer = _one_try(call, patient)
        except StoreAwayError as error:
            left = (PATIENCE if patient else 0) - (time.monotonic() - began)
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


def _one_try(call: Callable, patient: bool):
    seconds = SECONDS_TO_ANSWER if patient else SECONDS_TO_CLOSE
    limits = {MLFLOW_HTTP_REQUEST_MAX_RETRIES.name: "0"}
    if not (patient and MLFLOW_HTTP_REQUEST_TIMEOUT.is_set()):
        limits[MLFLOW_HTTP_REQUEST_TIMEOUT.name] = str(seconds)
    with environment(limits):
        try:
            return _unless_locked(call)
        except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
            if _is_away(error):
                raise StoreAwayError(f"{store_name()} does not answer") from error
            # Of a database, its own words: MLflow's and SQLAlchemy's are about their code.
            database = error if isinstance(error, SQLAlchemyError) else error.__cause__
            reason = str(getattr(database, "orig", None) or error).strip().partition("\n")[0]
            raise StoreError(printable(f"{store_name()}: {reason}")) from error


def _unless_locked(call: Callable):
    """Do it, and once more if SQLite says at once that it is locked.

    It does so while it undoes what a killed process had half written.
    """
    try:
        return call()
    except MlflowException as error:
        if "database is locked" not in str(error):
            raise
    time.sleep(LOCKED_SECONDS)
    return call()


def _is_away(error: Exception) -> bool:
    """Whether asking again may help."""
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, requests.RequestException):
        return True
    if not isinstance(error, MlflowException) or is_sqlite():
        return False
    # MLflow makes one exception of all that can befall a request; what it was is its context.
    return error.error_code in PASSING or isinstance(error.__context__, requests.RequestException)


def store_name() -> str:
    """The store as a message names it."""
    return f"the tracking server {uri()}" if is_server() else f"the store {uri()}"
