"""The tracking store: its first opening, whether it answers, and who can share it."""

from pathlib import Path

import mlflow
import requests
from filelock import FileLock
from sqlalchemy.engine import make_url

from eml.errors import UserError

SECONDS_TO_ANSWER = 20


def open_store() -> None:
    """Open the store, alone if it is an SQLite file, which the first to open it has to fill.

    Several processes that do that at once break it for good.
    """
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("sqlite"):
        return
    file = Path(make_url(uri).database).absolute()
    with FileLock(file.with_name(f".{file.name}.lock")):
        mlflow.MlflowClient().search_experiments(max_results=1)


def reach_store() -> None:
    """Raise UserError if the store is a server that does not answer, or wants another password.

    MLflow itself would try for minutes.
    """
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return
    try:
        requests.head(uri, timeout=SECONDS_TO_ANSWER)
    except requests.RequestException as error:
        raise UserError(f"the tracking server {uri} does not answer") from error
    try:
        mlflow.MlflowClient().search_experiments(max_results=1)
    except mlflow.MlflowException as error:
        raise UserError(f"the tracking server {uri}: {str(error).splitlines()[0]}") from error


def refuse_if_local() -> None:
    """Raise UserError if the store is files, which several machines cannot write to."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("sqlite", "file")) or "://" not in uri:
        raise UserError(
            f"launcher=slurm: jobs on several nodes cannot write to {uri}, because the locks of a "
            "file do not hold across machines; start an `mlflow server` and set "
            'MLFLOW_TRACKING_URI to its address (README, "A store for several machines")'
        )
