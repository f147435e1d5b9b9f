"""Measurements of convolutions as runs: one for each layer and algorithm; step = batch size."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Metric

from eml.convolutions.measurement import PASSES, Measurement
from eml.recipes.convolutions import NAME
from eml.tracking.calls import store_call, uri
from eml.tracking.parameters import shown
from eml.tracking.readers import ClientReader, reader
from eml.tracking.runs import active_run
from eml.tracking.selection import FINISHED, NothingFinishedError, SelectionError, experiment_id
from eml.tracking.store import full_run_id, open_store
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import PARENT

ABOUT = ("algorithm", "pass_name", "batch_size", "timestamp")  # not metrics
VALUES = [field.name for field in fields(Measurement) if field.name not in ABOUT]
PARAMETERS = ["layer", "algorithm", "device_type"]
TAGS = ["hardware", "threads"]


@store_call
def log_measurements(
    parameters: Mapping[str, Any], tags: Mapping[str, str], measurements: Sequence[Measurement]
) -> None:
    """Log the measurements of one algorithm on one layer in the active run.

    parameters: PARAMETERS and others. tags: TAGS and others. A metric's name is that of the pass
    and of the value: `forward_gflop_per_second`.
    """
    mlflow.log_params(dict(parameters))
    mlflow.set_tags(dict(tags))
    metrics = [
        Metric(f"{each.pass_name}_{name}", value, each.timestamp, each.batch_size)
        for each in measurements
        for name, value in asdict(each).items()
        if name in VALUES and value == value  # NaN: not measured
    ]
    client = mlflow.MlflowClient()
    for start in range(0, len(metrics), 1000):  # MLflow's limit for a request
        client.log_batch(active_run().info.run_id, metrics=metrics[start : start + 1000])


def load_measurements(run_ids: Sequence[str], experiment: str = "") -> pd.DataFrame:
    """The measurements of these runs, or of the newest finished run of `convolutions`.

    run_ids: a parent's id stands for its children. The frame has a row for each run, pass and batch
    size, with the columns run_id, PARAMETERS, TAGS, pass_name, batch_size and VALUES, where NaN
    means not measured. Raises SelectionError if there is none.
    """
    open_store(create=False)
    return store_call(held=False)(_load)(run_ids, experiment)


def _load(run_ids: Sequence[str], experiment: str) -> pd.DataFrame:
    read = reader()
    if run_ids:
        chosen = read.get([full_run_id(id_) for id_ in run_ids])
    else:
        found = read.find([experiment_id(experiment)], {"recipe": NAME})
        chosen = [run for run in found if PARENT not in run.tags and run.status == FINISHED][:1]
        if not chosen:
            raise NothingFinishedError(f"no finished run of {NAME} in {uri()}")
    runs = {run.run_id: run for each in chosen for run in _measured(each, read)}
    names = [f"{name}_{value}" for name in PASSES for value in VALUES]
    points = read.points(list(runs), names).sort_values("timestamp", kind="stable")
    if points.empty:
        raise SelectionError(f"no measurement of {NAME} selected")
    split = {name: part for part in PASSES for name in names if name.startswith(part)}
    points["pass_name"] = points["metric"].map(split)
    points["value_name"] = [
        metric.removeprefix(f"{part}_")
        for metric, part in zip(points["metric"], points["pass_name"], strict=True)
    ]
    points = points.rename(columns={"epoch": "batch_size"})
    key = ["run_id", "pass_name", "batch_size"]
    points = points.drop_duplicates([*key, "value_name"], keep="last")
    table = points.pivot(index=key, columns="value_name", values="value").reindex(columns=VALUES)
    table = table.reset_index().sort_values(
        "pass_name", key=lambda names: names.map(PASSES.index), kind="stable"
    )
    about = pd.DataFrame(
        {"run_id": run.run_id}
        | {name: shown(run.params[name]) for name in PARAMETERS}
        | {name: shown(run.tags.get(name, "")) for name in TAGS}
        for run in runs.values()
    )
    return about.merge(table, on="run_id", how="inner")


def _measured(run: StoredRun, read: ClientReader) -> list[StoredRun]:
    """The run itself if it holds measurements, else the runs nested in it, oldest first."""
    nested = read.find([run.experiment_id], {PARENT: run.run_id})[::-1]
    return [each for each in [run, *nested] if each.params.keys() >= set(PARAMETERS)]
