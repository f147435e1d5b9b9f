"""What `mlflow run` tells the process that it starts; without importing mlflow (seconds)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

RUN_ID = "MLFLOW_RUN_ID"


def given_run_id() -> str:
    """The id of the run that `mlflow run` made for this process; "" without one, or once taken."""
    return os.environ.get(RUN_ID, "")


@contextmanager
def set_aside() -> Iterator[None]:
    """A context in which there is no given run, so that trainings make runs of their own."""
    run_id = os.environ.pop(RUN_ID, "")
    try:
        yield
    finally:
        if run_id:
            os.environ[RUN_ID] = run_id


def keep_quiet() -> None:
    """Keep MLflow from printing links and progress bars.

    eml prints once where a run is, MLflow for each nested run; and a model is loaded in a moment.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
