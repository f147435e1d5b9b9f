"""The first opening of a tracking store."""

from pathlib import Path

import mlflow
from filelock import FileLock
from sqlalchemy.engine import make_url


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
