"""Which runs to look at, and their histories as one tidy frame."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields

import mlflow
import pandas as pd
import requests
import sqlalchemy.exc

from eml.errors import UserError
from eml.readers import ClientReader, StoredRun, reader
from eml.recipes import RECIPES
from eml.train import EpochRecord

PARENT = "mlflow.parentRunId"  # MLflow's tag on a nested run
REUSED = "reused_runs"  # tag of a parent: runs that belong to it besides its children
METRICS = [field.name for field in fields(EpochRecord) if field.name != "epoch"]
FINISHED = "FINISHED"


class SelectionError(UserError):
    """Nothing to compare, or no store to read; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which runs. Where nothing is said: the newest finished group of trainings.

    A group is a parent's trainings; or all finished trainings of one recipe that have no parent,
    the newest of each Config.
    """

    experiment: str = ""  # its name; else the one that `mlflow run` would use here
    recipe: str = ""
    parent: str = ""  # a run id
    runs: Sequence[str] = ()  # run ids; that of a parent stands for its trainings
    filter: str = ""  # as in MLflow's search


@dataclass(frozen=True)
class Selected:
    """The runs that were selected, and a line for each reason why others were not."""

    runs: list[StoredRun]
    left_out: list[str]


def load_history(selection: Selection) -> tuple[pd.DataFrame, list[str]]:
    """The histories of the runs selected, and why others were left out.

    The frame has a row for each run and epoch: run_id, run_name, status, start_time, the parameters
    (numbers as numbers), the tags that are not MLflow's own, epoch, and METRICS. Unfinished and
    diverged runs are in it if they were asked for by id, parent or filter: `status` and the tag
    `diverged` tell them. Of points that were logged for the same epoch the last one holds.

    Raises SelectionError if nothing is selected, nothing has an epoch, or the store cannot be read.
    """
    try:
        read = reader()
        selected = select(selection, read)
        return _frame(selected.runs, read), selected.left_out
    except requests.RequestException as error:
        uri = mlflow.get_tracking_uri()
        raise SelectionError(f"the tracking server {uri} does not answer") from error
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SelectionError(f"the store {mlflow.get_tracking_uri()}: {reason}") from error


def select(selection: Selection, read: ClientReader) -> Selected:
    """The runs that a selection means."""
    if selection.recipe and selection.recipe not in RECIPES:
        raise SelectionError(f"recipe={selection.recipe}: give one of {', '.join(RECIPES)}")
    if selection.runs or selection.parent:
        ids = list(selection.runs) + ([selection.parent] if selection.parent else [])
        runs = [training for run in read.get(ids) for training in _trainings(run, read)]
        return Selected(list({run.run_id: run for run in runs}.values()), [])
    experiment = _experiment(selection.experiment)
    if selection.filter:
        found = read.search([experiment], selection.filter)
        parts = [run for run in found if selection.recipe in ("", run.tags.get("recipe"))]
        return Selected([run for run in parts if _is_training(run)], [])
    tags = {"recipe": selection.recipe} if selection.recipe else {}
    return _newest_group(read.find([experiment], tags), read)


def _newest_group(runs: list[StoredRun], read: ClientReader) -> Selected:
    tops = [run for run in runs if PARENT not in run.tags and run.tags.get("recipe") in RECIPES]
    finished = [run for run in tops if run.status == FINISHED]
    if not finished:
        unfinished = f", {len(tops)} not finished" if tops else ""
        raise SelectionError(
            f"no finished training in {mlflow.get_tracking_uri()}{unfinished}: train first, "
            "or give experiment, recipe, parent, runs or filter"
        )
    newest = finished[0]
    if not _is_training(newest):
        return Selected(_trainings(newest, read), [])
    same = [run for run in tops if run.tags["recipe"] == newest.tags["recipe"]]
    group: dict[str, StoredRun] = {}
    older, unfinished = [], []
    for run in same:  # newest first
        if run.status != FINISHED:
            unfinished.append(run.run_id)
        elif group.setdefault(run.tags.get("training_digest", run.run_id), run) is not run:
            older.append(run.run_id)
    left_out = []
    if unfinished:
        left_out.append(f"left out, not finished: {', '.join(unfinished)}")
    if older:
        left_out.append(f"left out, run again since with the same Config: {', '.join(older)}")
    return Selected(list(group.values())[::-1], left_out)


def _is_training(run: StoredRun) -> bool:
    """Not a parent, nor a comparison: it has a Config."""
    return "learning_rate" in run.params and "train_images" in run.params


def _trainings(run: StoredRun, read: ClientReader) -> list[StoredRun]:
    """The run itself, or, of a parent, the trainings that belong to it, oldest first."""
    if _is_training(run):
        return [run]
    reused = [run_id for run_id in run.tags.get(REUSED, "").split(",") if run_id]
    children = read.find([run.experiment_id], {PARENT: run.run_id})
    return read.get(reused) + [child for child in children[::-1] if _is_training(child)]


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
    points = read.points([run.run_id for run in runs], METRICS)
    if points.empty:
        raise SelectionError(
            f"{len(runs)} runs selected, none with an epoch: select runs that trained"
        )
    points = points.sort_values("timestamp", kind="stable")
    points = points.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    table = points.pivot(index=["run_id", "epoch"], columns="metric", values="value")
    table = table.reindex(columns=METRICS).reset_index()
    described = pd.DataFrame([_described(run) for run in runs])
    history = described.merge(table, on="run_id", how="inner", sort=False)
    position = {run.run_id: number for number, run in enumerate(runs)}
    return history.sort_values(
        ["run_id", "epoch"], key=lambda c: c.map(position) if c.name == "run_id" else c
    ).reset_index(drop=True)


def _described(run: StoredRun) -> dict[str, int | float | str]:
    tags = {key: value for key, value in run.tags.items() if not key.startswith("mlflow.")}
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "status": run.status,
        "start_time": run.start_time,
        **{key: _number(value) for key, value in run.params.items()},
        **tags,
    }


def _number(text: str) -> int | float | str:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
