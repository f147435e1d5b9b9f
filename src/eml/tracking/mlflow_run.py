"""What `mlflow run` tells the process that it starts; without importing mlflow (seconds)."""

import os

RUN_ID = "MLFLOW_RUN_ID"


def given_run_id() -> str:
    """The id of the run that `mlflow run` made for this process; "" without one, or once taken."""
    return os.environ.get(RUN_ID, "")


def keep_quiet() -> None:
    """Keep MLflow from printing where a run is: eml prints it once, MLflow for each nested run."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
