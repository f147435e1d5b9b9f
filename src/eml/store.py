"""The first opening of a tracking store, and who can share it."""

from pathlib import Path

import mlflow
from filelock import FileLock
from sqlalchemy.engine import make_url

from eml.errors import UserError


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


def refuse_if_local() -> None:
    """Raise UserError if the store is files, which several machines cannot write to."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("sqlite", "file")) or "://" not in uri:
        raise UserError(
            f"launcher=slurm: jobs on several nodes cannot write to {uri}, because the locks of a "
            "file do not hold across machines; start an `mlflow server` and set "
            'MLFLOW_TRACKING_URI to its address (README, "A store for several machines")'
        )
