"""Addresses of pages in MLflow's UI."""

import json
from collections.abc import Sequence
from urllib.parse import quote

from eml.tracking.calls import is_server, uri

# Without it the UI opens in its mode for language models, where runs are "evaluation runs".
TRAINING_MODE = "workflowType=machine_learning"
MOST_DRAWN = 20  # runs in an address


def site() -> str:
    """The address of the UI: the server's, or that of an `mlflow ui` on this machine."""
    return uri() if is_server() else "http://127.0.0.1:5000"


def page(experiment: str, run_id: str, part: str = "") -> str:
    """A run's page, or a part of it ("/artifacts"), below the address of the UI."""
    return f"#/experiments/{experiment}/runs/{run_id}{part}?{TRAINING_MODE}"


def charts(experiment: str) -> str:
    """The charts of all runs of an experiment, below the address of the UI."""
    return f"#/experiments/{experiment}/runs?compareRunsMode=CHART&{TRAINING_MODE}"


def curves(experiment: str, run_ids: Sequence[str], metric: str) -> str:
    """The page with a metric of some runs over the epochs, below the address of the UI."""
    if not 0 < len(run_ids) <= MOST_DRAWN:
        return charts(experiment)
    query = {
        "runs": run_ids,
        "metric": metric,
        "experiments": [experiment],
        "plot_metric_keys": [metric],
        "plot_layout": {},
    }
    values = [
        f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in query.items()
    ]
    return f"#/metric?{'&'.join(values)}&x_axis=step&{TRAINING_MODE}"
