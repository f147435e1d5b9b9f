"""Reads the histories of many runs as one tidy frame."""

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from eml.analysis.options import Selection
from eml.errors import printable
from eml.tracking.calls import store_call
from eml.tracking.selection import SelectionError, comparable, select
from eml.tracking.store import open_to_read
from eml.tracking.stored_run import StoredRun
from eml.tracking.stores import Others, Stores
from eml.training.loop import EpochRecord

METRICS = [f.name for f in fields(EpochRecord) if f.name not in ("epoch", "timestamp")]
LONGEST_TAG = 200  # characters of a tag in a frame


def load_history(
    selection: Selection, others: Others = (), of_the_sheet: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """The histories of the selected runs, and a line for each run that was left out.

    others: stores that are read beside the store here. of_the_sheet: prefer a group with the epochs
    and images that the sheets ask for.

    The frame has a row for each run and epoch, with the columns run_id, store ("" for the store
    here), run_name, status, start_time, experiment_id, the parameters (numbers as numbers), the
    tags except MLflow's own, epoch, and METRICS. Of several runs with the same Config (seed
    included) the frame holds one: the newest finished run, else the newest. Unfinished and diverged
    runs are included; summary.summary tells them apart. If an epoch was logged twice, the last
    point counts.

    Raises SelectionError if nothing is selected or nothing has an epoch, StoreError if a store
    cannot be read.
    """
    open_to_read(others)
    return _load(selection, others, of_the_sheet)


def history_of(run_ids: Sequence[str], others: Others = ()) -> pd.DataFrame:
    """The histories of these runs; prints a line for each run that was left out."""
    history, left_out = load_history(Selection(runs=",".join(run_ids)), others)
    print("".join(f"{line}\n" for line in left_out), end="", flush=True)
    return history


@store_call
def _load(
    selection: Selection, others: Others, of_the_sheet: bool
) -> tuple[pd.DataFrame, list[str]]:
    stores = Stores(others)
    selected, passed_over = select(selection, stores, of_the_sheet)
    runs, left_out = comparable(selected)
    frame = _frame(runs, stores) if runs else pd.DataFrame()
    with_epochs = set(frame.get("run_id", ()))
    left_out = [
        *passed_over,
        *left_out,
        *(f"left out, no epoch: {run.where}" for run in runs if run.run_id not in with_epochs),
    ]
    if frame.empty:
        raise SelectionError("; ".join(["no training selected", *left_out[:5]]))
    return frame, left_out


def _frame(runs: list[StoredRun], stores: Stores) -> pd.DataFrame:
    """The histories of trainings; a run without an epoch has no row."""
    splits = {run.config.evaluated for run in runs}
    metrics = [m for m in METRICS if m.partition("_")[0] not in {"test", "validation"} - splits]
    points = stores.points(runs, metrics).sort_values("timestamp", kind="stable")
    points = points.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    table = points.pivot(index=["run_id", "epoch"], columns="metric", values="value")
    about = pd.DataFrame([described(run) for run in runs])
    return about.merge(table.reindex(columns=METRICS).reset_index(), on="run_id")


def described(run: StoredRun) -> dict[str, int | float | str]:
    """The columns of a training's rows but epoch and METRICS."""
    values: dict[str, int | float | str] = {
        # Anyone may set a tag, so a parameter with the same name takes precedence.
        **{k: printable(tag, LONGEST_TAG) for k, tag in run.tags.items() if k[:7] != "mlflow."},
        **{name: _number_in(text) for name, text in run.params.items()},
        **vars(run.config),
        "run_id": run.run_id,
        "store": run.store,
        "run_name": printable(run.name, LONGEST_TAG),
        "status": run.status,
        "start_time": run.start_time,
        "experiment_id": run.experiment_id,
    }
    return {name: value for name, value in values.items() if name not in ("epoch", *METRICS)}


def _number_in(text: str) -> int | float | str:
    """The number in a text; the text if there is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
