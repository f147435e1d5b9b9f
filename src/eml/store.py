"""The tracking store: its first opening, whether it answers, and who can share it."""

import re
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.utils.rest_utils import http_request
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
    server = f"the tracking server {re.sub(r'//[^/@]*@', '//', uri)}"  # without a password
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
        raise UserError(f"{server} does not answer") from error
    if answer.status_code != 200:
        reason = " ".join(answer.text.split())[:200]
        raise UserError(f"{server} answers with {answer.status_code}: {reason}")


def refuse_if_local() -> None:
    """Raise UserError if the store is files, which several machines cannot write to."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("sqlite", "file")) or "://" not in uri:
        raise UserError(
            f"launcher=slurm: jobs on several nodes cannot write to {uri}, because the locks of a "
            "file do not hold across machines; start an `mlflow server` and set "
            'MLFLOW_TRACKING_URI to its address (README, "A store for several machines")'
        )
