"""MLflow's UI: addresses of its pages, and two saved views of its charts."""

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from eml.errors import printable
from eml.tracking.calls import is_server, store_call, uri

# Without it the UI opens in its mode for language models, where runs are "evaluation runs".
TRAINING_MODE = "workflowType=machine_learning"
# Tag of an experiment: a view that MLflow's menu "Views" lists. The UI reads and writes these tags.
VIEW = "mlflow.sharedViewState."
ALL_TRAININGS = "eml"  # the view of all trainings of an experiment
LONGEST_TAG = 5000  # characters that every store of MLflow accepts
COLUMNS = ["metrics.`final_test_accuracy`", "metrics.`best_test_accuracy`", "params.`recipe`"]
COLUMNS += ["metrics.`train_seconds`", "params.`optimizer`", "params.`learning_rate`"]
WHAT_IS_HERE = "Trainings of eml; the curves of all: [charts]({charts}). More in the menu Views.\n"


def site() -> str:
    """The address of the UI: the server's, or that of an `mlflow ui` on this machine."""
    return uri() if is_server() else "http://127.0.0.1:5000"


def page(experiment: str, run_id: str, part: str = "") -> str:
    """A run's page, or a part of it ("/artifacts"), below the address of the UI."""
    return f"#/experiments/{experiment}/runs/{run_id}{part}?{TRAINING_MODE}"


def charts(experiment: str, view: str = ALL_TRAININGS) -> str:
    """The charts of an experiment in a saved view, below the address of the UI."""
    return (
        f"#/experiments/{experiment}/runs?compareRunsMode=CHART&{TRAINING_MODE}"
        f"&viewStateShareKey={view}"
    )


@store_call
def introduce(experiment_id: str) -> None:
    """Give an experiment a view of all trainings, and a note with a link, unless it has them."""
    drawn = [("test_accuracy", ""), ("test_accuracy", "train_seconds")]
    # Parents have no optimizer.
    wanted = {"searchFilter": "attributes.status = 'FINISHED' AND params.optimizer LIKE '%'"}
    state = _state([*drawn, ("test_loss", ""), ("train_loss", "")]) | wanted
    _save(experiment_id, VIEW + ALL_TRAININGS, _view("eml: all trainings", state))
    _save(experiment_id, MLFLOW_RUN_NOTE, WHAT_IS_HERE.format(charts=charts(experiment_id)))


def _save(experiment_id: str, tag: str, value: str) -> None:
    """Set a tag of an experiment, unless it is there."""
    client = mlflow.MlflowClient()
    if tag not in client.get_experiment(experiment_id).tags:
        with suppress(MlflowException):  # MLflow refuses the second of two processes at once
            client.set_experiment_tag(experiment_id, tag, value)


@store_call
def view_of(
    experiment_id: str, title: str, run_ids: Sequence[str], by: Sequence[str], split: str
) -> str:
    """Save a view of these runs under a title; its charts, below the address of the UI.

    by: where curves have several runs, the parameters that tell curves apart; the UI draws the mean
    and the range of runs that have them in common. split: "test" or "validation". A single run has
    charts on its own page.
    """
    if len(run_ids) == 1:
        return page(experiment_id, run_ids[0], "/model-metrics")
    chosen = ",".join(f"'{run_id}'" for run_id in sorted(run_ids))
    # The UI does not average over runs that have different values on the x-axis.
    over_seconds = [] if by else [(f"{split}_accuracy", "train_seconds")]
    drawn = [(f"{split}_accuracy", ""), *over_seconds, (f"{split}_loss", ""), ("train_loss", "")]
    state = _state(drawn) | {"searchFilter": f"attributes.run_id IN ({chosen})"}
    if keys := [{"mode": "param", "groupByData": name} for name in by]:
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": keys}
        state["useGroupedValuesInCharts"] = True
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    view = _view(title, state)
    if len(view) > LONGEST_TAG:  # of more than about 100 runs
        return charts(experiment_id)
    _save(experiment_id, VIEW + key, view)
    return charts(experiment_id, key)


def _state(drawn: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The state of the UI, as MLflow 3.17 saves it.

    drawn: for each chart its metric, and the metric of its x-axis, or "" for epochs.
    """
    chart = {"type": "LINE", "metricSectionId": "eml", "runsCountToCompare": 20, "range": {}}
    charts = [
        chart
        | {"uuid": f"eml{number}", "metricKey": metric, "selectedMetricKeys": [metric]}
        | {"xAxisKey": "metric" if x else "step", "selectedXAxisMetricKey": x, "lineSmoothness": 0}
        for number, (metric, x) in enumerate(drawn)
    ]
    section = {"uuid": "eml", "name": "Accuracy and loss", "display": True}
    return {
        "compareRunCharts": charts,
        "compareRunSections": [section],
        "runsHiddenMode": "FIRST_20_RUNS",
        "selectedColumns": COLUMNS,
        # The best first. By date, the UI would fold nested runs into their parents.
        "orderByKey": COLUMNS[0],
        "orderByAsc": False,
    }


def _view(title: str, state: Mapping[str, Any]) -> str:
    """The content of a tag VIEW."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    now = time.time_ns() // 1_000_000
    view = {"name": printable(title, 100), "createdAt": now, "updatedAt": now}
    return json.dumps(view | {"state": f"deflate;{packed}"})
