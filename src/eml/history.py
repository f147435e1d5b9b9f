"""Which runs to look at, and their histories as one tidy frame."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields

import mlflow
import pandas as pd
import sqlalchemy.exc

from eml.config import Config
from eml.errors import UserError
from eml.readers import ClientReader, StoredRun, reader
from eml.recipes import RECIPES
from eml.stopping import signals_held
from eml.train import EpochRecord

PARENT = "mlflow.parentRunId"  # MLflow's tag on a nested run
REUSED = "reused_runs"  # tag of a parent: runs that belong to it besides its children
CONTINUED_IN = "continued_in"  # tag of a run that was interrupted: the one that went on with it
CONFIG = [field.name for field in fields(Config) if field.name != "recipe"]
METRICS = [field.name for field in fields(EpochRecord) if field.name != "epoch"]
FINISHED = "FINISHED"


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

    Raises SelectionError if nothing is selected, nothing has an epoch, or the store cannot be read.
    """
    try:
        read = reader()
        runs, left_out = _trainings_alone(_select(selection, read))
        if not runs:
            raise SelectionError("; ".join(["no training selected", *left_out]))
        return _frame(runs, read), left_out
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SelectionError(f"the store {mlflow.get_tracking_uri()}: {reason}") from error


@signals_held()
def history_of(run_ids: Sequence[str]) -> pd.DataFrame:
    """The histories of these runs, read without interruption, for a process that goes on to write.

    An interrupted read keeps a lock of SQLite as an interrupted write does.
    """
    history, _ = load_history(Selection(runs=run_ids))
    return history


def _select(selection: Selection, read: ClientReader) -> list[StoredRun]:
    """The runs that a selection means, oldest first or in the order given."""
    if selection.runs or selection.parent:
        ids = [*selection.runs, selection.parent] if selection.parent else selection.runs
        return [member for run in read.get(ids) for member in _members(run, read)]
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
        f"no finished training in {mlflow.get_tracking_uri()}{unfinished}: train first, "
        "or give experiment, recipe, parent, runs or filter"
    )


def _members(run: StoredRun, read: ClientReader) -> list[StoredRun]:
    """Of a parent, the trainings that belong to it, oldest first; else the run itself."""
    if not _lacks(run):
        return [run]
    reused = [run_id for run_id in run.tags.get(REUSED, "").split(",") if run_id]
    children = read.find([run.experiment_id], {PARENT: run.run_id})
    return (read.get(reused) + children[::-1]) or [run]


def _lacks(run: StoredRun) -> list[str]:
    """The fields of Config that a run has no parameter for; a training has all."""
    return [name for name in CONFIG if name not in run.params]


def _trainings_alone(runs: list[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """Runs that can be compared, each Config once, and why others were left out."""
    left_out = []
    newest: dict[tuple, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (run.status == FINISHED, run.start_time)):
        if run.deleted:
            left_out.append(f"left out, deleted: {run.run_id}")
        elif CONTINUED_IN in run.tags:
            left_out.append(
                f"left out, interrupted and continued in {run.tags[CONTINUED_IN]}: {run.run_id}"
            )
        elif lacking := _lacks(run):
            other = "made by another version of eml, " if "training_digest" in run.tags else ""
            left_out.append(f"left out, {other}no training with a {lacking[0]}: {run.run_id}")
        else:
            key = tuple(_number(run.params[name]) for name in CONFIG)
            if older := newest.get(key):
                kind = "run again since" if older.status == FINISHED else "not finished, run again"
                left_out.append(f"left out, {kind} with the same Config: {older.run_id}")
            newest[key] = run
    on_validation = [run for run in newest.values() if run.params["validation"] != "0"]
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


def _frame(runs: list[StoredRun], read: ClientReader) -> pd.DataFrame:
    splits = {"validation" if run.params["validation"] != "0" else "test" for run in runs}
    metrics = [m for m in METRICS if m.partition("_")[0] not in {"test", "validation"} - splits]
    points = read.points([run.run_id for run in runs], metrics)
    if points.empty:
        ids = ", ".join(run.run_id for run in runs[:5])
        raise SelectionError(f"none of the runs selected has trained an epoch: {ids}")
    points = points.sort_values("timestamp", kind="stable")
    points = points.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    table = points.pivot(index=["run_id", "epoch"], columns="metric", values="value")
    table = table.reindex(columns=METRICS).reset_index()
    described = pd.DataFrame([_described(run) for run in runs])
    return described.merge(table, on="run_id", how="inner")  # in the order of its left side


def _described(run: StoredRun) -> dict[str, int | float | str]:
    # A tag, which anyone may set, never takes the place of what was logged.
    tags = {key: value for key, value in run.tags.items() if not key.startswith("mlflow.")}
    described = tags | {key: _number(value) for key, value in run.params.items()}
    for key in ("epoch", *METRICS):
        described.pop(key, None)
    return described | {
        "run_id": run.run_id,
        "run_name": run.name,
        "status": run.status,
        "start_time": run.start_time,
    }


def _number(text: str) -> int | float | str:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
