"""Which runs to look at, and their histories as one tidy frame."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import mlflow
import pandas as pd

from eml.calls import store_call, uri
from eml.config import Config
from eml.errors import UserError
from eml.readers import ClientReader, StoredRun, reader
from eml.recipes import RECIPES
from eml.store import full_run_id, open_store
from eml.text import printable
from eml.train import EpochRecord

PARENT = "mlflow.parentRunId"  # MLflow's tag on a nested run
REUSED = "reused_runs"  # tag of a parent: runs that belong to it besides its children
CONTINUED_IN = "continued_in"  # tag of a run that was interrupted: the one that went on with it
CONFIG = {field.name: field.type for field in fields(Config) if field.name != "recipe"}
METRICS = [field.name for field in fields(EpochRecord) if field.name != "epoch"]
FINISHED = "FINISHED"
# Of the numbers among a run's parameters: an axis or a product of two of them must not overflow.
LOWEST = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-100}  # else 0
HIGHEST = {"learning_rate": 1e100}  # else 10**18
INFINITE = 1e306  # MLflow gives infinity back as 1.8e308, and a mean needs room to be added up
LONGEST_TEXT = 200  # characters of a name or tag that are shown
LONGEST_NAME = 60  # of a Config's texts, several of which stand in one line of a figure


class SelectionError(UserError):
    """Nothing to compare, or no store to read; the message says why."""


class NothingFinishedError(SelectionError):
    """There is no finished training to take where none was named."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which runs. Where nothing is said: the newest finished group of trainings.

    A group is a parent's trainings; or all trainings of one recipe that have no parent.
    """

    experiment: str = ""  # its name; else the one that `mlflow run` would use here
    recipe: str = ""
    parent: str = ""  # a run id
    runs: Sequence[str] = ()  # run ids; that of a parent stands for its trainings
    filter: str = ""  # as in MLflow's search

    def __post_init__(self):
        if (self.runs or self.parent) and (self.experiment or self.recipe or self.filter):
            raise SelectionError("with runs or parent, experiment, recipe and filter say nothing")
        if self.recipe and self.recipe not in RECIPES:
            raise SelectionError(f"recipe={self.recipe}: give one of {', '.join(RECIPES)}")


def load_history(selection: Selection) -> tuple[pd.DataFrame, list[str]]:
    """The histories of the runs selected, and a line for each reason why others were left out.

    The frame has a row for each run and epoch: run_id, run_name, status, start_time, the parameters
    (numbers as numbers), the tags that are not MLflow's own, epoch, and METRICS. Of runs with the
    same Config, seed included, it has one, so that none counts twice: the newest, a finished one if
    there is one. Unfinished and diverged runs are in it too: compare.summary tells them apart. Of
    points that were logged for the same epoch the last one holds.

    Raises SelectionError if nothing is selected or nothing has an epoch, StoreError if the store
    cannot be read.
    """
    open_store(create=False)
    return store_call(_load, held=False)(selection)


def history_of(run_ids: Sequence[str]) -> pd.DataFrame:
    """The histories of these runs, read without interruption, for a process that goes on to write.

    An interrupted read keeps a lock of SQLite as an interrupted write does.
    """
    history, left_out = store_call(_load)(Selection(runs=run_ids))
    for line in left_out:
        print(line, flush=True)
    return history


def _load(selection: Selection) -> tuple[pd.DataFrame, list[str]]:
    read = reader()
    runs, left_out = _trainings_alone(_select(selection, read))
    if not runs:
        raise SelectionError("; ".join(["no training selected", *left_out]))
    frame, impossible = _frame(runs, read)
    return frame, left_out + impossible


def _select(selection: Selection, read: ClientReader) -> list[StoredRun]:
    """The runs that a selection means, oldest first or in the order given."""
    if selection.runs or selection.parent:
        ids = [*selection.runs, selection.parent] if selection.parent else selection.runs
        found = read.get([full_run_id(id_) for id_ in ids])
        return [member for run in found for member in _members(run, read)]
    experiment = _experiment(selection.experiment)
    if selection.filter:
        found = read.search([experiment], selection.filter)[::-1]
        return [run for run in found if selection.recipe in ("", run.tags.get("recipe"))]
    tags = {"recipe": selection.recipe} if selection.recipe else {}
    return _newest_group(read.find([experiment], tags), read)


def _newest_group(runs: list[StoredRun], read: ClientReader) -> list[StoredRun]:
    tops = [run for run in runs if PARENT not in run.tags and run.tags.get("recipe") in RECIPES]
    finished = [run for run in tops if run.status == FINISHED]
    for newest in finished:
        if not _lacks(newest):
            same = [run for run in tops if run.tags["recipe"] == newest.tags["recipe"]]
            return same[::-1]
        if members := [run for run in _members(newest, read) if not _lacks(run)]:
            return members
    unfinished = f", {len(tops)} not finished" if tops else ""
    raise NothingFinishedError(
        f"no finished training in {uri()}{unfinished}: train first, "
        "or give experiment, recipe, parent, runs or filter"
    )


def _members(run: StoredRun, read: ClientReader) -> list[StoredRun]:
    """Of a parent, the trainings that belong to it, oldest first; else the run itself."""
    if not _lacks(run):
        return [run]
    reused = [run_id for run_id in run.tags.get(REUSED, "").split(",") if run_id]
    children = read.find([run.experiment_id], {PARENT: run.run_id})
    return (read.get(reused) + children[::-1]) or [run]


def _lacks(run: StoredRun) -> str:
    """Why a run is no training of a Config, in words; "" if it is one."""
    for name, kind in CONFIG.items():
        if name not in run.params:
            other = "made by another version of eml, " if "training_digest" in run.tags else ""
            return f"{other}no training with a {name}"
        if kind is not str and not _is_number(_number(run.params[name]), name, kind):
            number = "whole number" if kind is int else "number"
            valid = f"{number} from {LOWEST.get(name, 0):g} to {_highest(name):g}"
            return f"its {name} is no {valid} ({_shown(run.params[name], LONGEST_NAME)})"
    return ""


def _trainings_alone(runs: list[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """Runs that can be compared, each Config once, and why others were left out."""
    left_out = []
    newest: dict[tuple, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (run.status == FINISHED, run.start_time or 0)):
        if run.deleted:
            left_out.append(f"left out, deleted: {run.run_id}")
        elif CONTINUED_IN in run.tags:
            later = _shown(run.tags[CONTINUED_IN])
            left_out.append(f"left out, interrupted and continued in {later}: {run.run_id}")
        elif why := _lacks(run):
            left_out.append(f"left out, {why}: {run.run_id}")
        else:
            # As the frame has them: what cannot be told apart there must not count twice.
            key = tuple(_parameter(name, run.params[name]) for name in CONFIG)
            if older := newest.get(key):
                kind = "run again since" if older.status == FINISHED else "not finished, run again"
                left_out.append(f"left out, {kind} with the same Config: {older.run_id}")
            newest[key] = run
    on_validation = [run for run in newest.values() if _number(run.params["validation"])]
    if len(on_validation) < len(newest):
        # Accuracies of two kinds of images: those of the test images are what is compared.
        if on_validation:
            ids = ", ".join(run.run_id for run in on_validation)
            left_out.append(f"left out, evaluated on validation images: {ids}")
        newest = {key: run for key, run in newest.items() if run not in on_validation}
    kept = {run.run_id for run in newest.values()}
    return list({run.run_id: run for run in runs if run.run_id in kept}.values()), left_out


def _experiment(name: str) -> str:
    """The id of the experiment with this name, or of the active one."""
    active = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if active and not name:
        return active
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        valid = ", ".join(e.name for e in mlflow.search_experiments())
        raise SelectionError(f"experiment={name}: give one of {valid}")
    return experiment.experiment_id


def _frame(runs: list[StoredRun], read: ClientReader) -> tuple[pd.DataFrame, list[str]]:
    """The histories of trainings, and a line for each that has none, or an impossible one."""
    described = pd.DataFrame([_described(run) for run in runs])
    splits = {"validation" if validation else "test" for validation in described["validation"]}
    metrics = [m for m in METRICS if m.partition("_")[0] not in {"test", "validation"} - splits]
    points = read.points([run.run_id for run in runs], metrics)
    points = points.sort_values("timestamp", kind="stable")
    points = points.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    table = points.pivot(index=["run_id", "epoch"], columns="metric", values="value")
    table = _finite(table.reindex(columns=METRICS)).reset_index()
    frame = described.merge(table, on="run_id", how="inner")  # in the order of its left side
    impossible = _impossible(frame)
    without = {run.run_id for run in runs} - set(table["run_id"])
    why = dict.fromkeys(without, "without an epoch") | impossible
    left_out = [f"left out, {why[run.run_id]}: {run.run_id}" for run in runs if run.run_id in why]
    if len(left_out) == len(runs):
        raise SelectionError("; ".join(["no training selected", *left_out[:5]]))
    if impossible:
        frame = frame[~frame["run_id"].isin(list(impossible))].reset_index(drop=True)
    return frame, left_out


def _finite(table: pd.DataFrame) -> pd.DataFrame:
    """NaN for infinity; for all scores of an epoch with an infinite loss, as a training logs it."""
    infinite = table.abs() >= INFINITE
    diverged = infinite.filter(like="loss").any(axis=1)
    infinite.loc[diverged, [name for name in METRICS if name.endswith(("loss", "accuracy"))]] = True
    return table.mask(infinite)


def _impossible(frame: pd.DataFrame) -> dict[str, str]:
    """By run id a number of it that no training logs."""
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


def _described(run: StoredRun) -> dict[str, int | float | str]:
    # A tag, which anyone may set, never takes the place of what was logged.
    tags = {k: _shown(value) for k, value in run.tags.items() if not k.startswith("mlflow.")}
    described = tags | {key: _parameter(key, value) for key, value in run.params.items()}
    for key in ("epoch", *METRICS):
        described.pop(key, None)
    if not _is_number(described.get("parameters", ""), "parameters", int):
        described.pop("parameters", None)
    return described | {
        "run_id": run.run_id,
        "run_name": _shown(run.name),
        "status": run.status,
        "start_time": run.start_time,
    }


def _parameter(name: str, text: str) -> int | float | str:
    """The value of a parameter: a number where Config has one, text where it has text."""
    kind = CONFIG.get(name)
    if kind is str:
        return _shown(text, LONGEST_NAME)
    number = _number(text)
    if isinstance(number, str):
        return _shown(number)
    return int(number) if kind is int else number


def _is_number(value: int | float | str, name: str, kind: type) -> bool:
    """Whether the parameter `name` can have this value, as a number of this kind."""
    if isinstance(value, str) or not LOWEST.get(name, 0) <= value <= _highest(name):
        return False
    return kind is float or value == int(value)


def _highest(name: str) -> float:
    return HIGHEST.get(name, 10**18)


def _number(text: str) -> int | float | str:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


@lru_cache(1000)  # runs have many tags, most of them alike
def _shown(text: str, longest: int = LONGEST_TEXT) -> str:
    return printable(text, longest)
