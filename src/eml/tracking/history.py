"""Reads the histories of many runs as one tidy frame."""

import math
from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from eml.tracking.calls import store_call
from eml.tracking.parameters import config_values, is_number, parameter_value, shown
from eml.tracking.selection import Selection, SelectionError, comparable, select
from eml.tracking.store import open_to_read
from eml.tracking.stored_run import StoredRun
from eml.tracking.stores import Others, Stores
from eml.tracking.tags import SYSTEM_METRICS
from eml.training.loop import EpochRecord

METRICS = [field.name for field in fields(EpochRecord) if field.name != "epoch"]
INFINITE = 1e306  # MLflow returns infinity as 1.8e308; sums of values below this stay finite


def load_history(selection: Selection) -> tuple[pd.DataFrame, list[str]]:
    """The histories of the selected runs, and a line for each run that was left out.

    The frame has a row for each run and epoch, with the columns run_id, store ("" for the store
    here), run_name, status, start_time, experiment_id, the parameters (numbers as numbers), the
    tags except MLflow's own, epoch, and METRICS. Of several runs with the same Config (seed
    included) the frame holds one: the newest finished run, else the newest. Unfinished and diverged
    runs are included; summary.summary tells them apart. If an epoch was logged twice, the last
    point counts.

    Raises SelectionError if nothing is selected or nothing has an epoch, StoreError if a store
    cannot be read.
    """
    open_to_read(selection.stores)
    return store_call(held=False)(_load)(selection)


def history_of(run_ids: Sequence[str], others: Others = ()) -> pd.DataFrame:
    """The histories of these runs, for a process that writes to the store afterwards.

    Signals wait during the read, because an interrupted read keeps SQLite's lock.
    """
    history, left_out = store_call(_load)(Selection(runs=run_ids, stores=others))
    for line in left_out:
        print(line, flush=True)
    return history


def _load(selection: Selection) -> tuple[pd.DataFrame, list[str]]:
    stores = Stores(selection.stores)
    selected, passed_over = select(selection, stores)
    runs, left_out = comparable(selected)
    left_out = passed_over + left_out
    if not runs:
        raise SelectionError("; ".join(["no training selected", *left_out[:5]]))
    frame, impossible = _frame(runs, stores)
    return frame, left_out + impossible


def _frame(runs: list[StoredRun], stores: Stores) -> tuple[pd.DataFrame, list[str]]:
    """The histories of trainings, and a line for each run without epochs or with bad numbers."""
    about = pd.DataFrame([described(run) for run in runs])
    splits = {"validation" if validation else "test" for validation in about["validation"]}
    metrics = [m for m in METRICS if m.partition("_")[0] not in {"test", "validation"} - splits]
    points = stores.points(runs, metrics)
    points = points.sort_values("timestamp", kind="stable")
    points = points.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    table = points.pivot(index=["run_id", "epoch"], columns="metric", values="value")
    table = _finite(table.reindex(columns=METRICS)).reset_index()
    frame = about.merge(table, on="run_id", how="inner")  # keeps the order of `about`
    impossible = impossible_numbers(frame)
    without = {run.run_id for run in runs} - set(table["run_id"])
    why = dict.fromkeys(without, "without an epoch") | impossible
    left_out = [f"left out, {why[run.run_id]}: {run.where}" for run in runs if run.run_id in why]
    if len(left_out) == len(runs):
        raise SelectionError("; ".join(["no training selected", *left_out[:5]]))
    if impossible:
        frame = frame[~frame["run_id"].isin(list(impossible))].reset_index(drop=True)
    return frame, left_out


def _finite(table: pd.DataFrame) -> pd.DataFrame:
    """Replace infinity by NaN; with an infinite loss, all scores of the epoch become NaN."""
    infinite = table.abs() >= INFINITE
    diverged = infinite.filter(like="loss").any(axis=1)
    infinite.loc[diverged, [name for name in METRICS if name.endswith(("loss", "accuracy"))]] = True
    return table.mask(infinite)


def impossible_numbers(frame: pd.DataFrame) -> dict[str, str]:
    """By run id: a logged number that no training can produce."""
    outside = {"epoch": ~frame["epoch"].between(0, frame["epochs"])} | {
        metric: ~frame[metric].fillna(0).between(0, 1 if metric.endswith("accuracy") else math.inf)
        for metric in METRICS
    }
    return {
        run_id: f"no training of {epochs} epochs logs {name}={value:g}"
        for name, rows in outside.items()
        if rows.any()
        for run_id, epochs, value in frame.loc[rows, ["run_id", "epochs", name]].values
    }


def described(run: StoredRun) -> dict[str, int | float | str]:
    """The columns of a run's rows but epoch and METRICS. Requires that lacks() is ""."""
    # Anyone may set a tag, so a parameter with the same name takes precedence.
    tags = {k: shown(value) for k, value in run.tags.items() if not k.startswith("mlflow.")}
    params = {key: parameter_value(key, value) for key, value in run.params.items()}
    # Runs of older versions lack the tag.
    values = {SYSTEM_METRICS: "false"} | tags | params | config_values(run)
    for key in ("epoch", *METRICS):
        values.pop(key, None)
    if not is_number(values.get("parameters", ""), "parameters", int):
        values.pop("parameters", None)
    return values | {
        "run_id": run.run_id,
        "store": run.store,
        "run_name": shown(run.name),
        "status": run.status,
        "start_time": run.start_time,
        "experiment_id": run.experiment_id,
    }
