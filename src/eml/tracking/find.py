"""Looks up runs in the store by id, checkpoint, parent or digest."""

import os

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from eml.config import Config
from eml.errors import UserError, printable
from eml.tracking.calls import store_call, uri
from eml.tracking.digests import training_digest
from eml.tracking.readers import ABSENT
from eml.tracking.stored_run import FINISHED, StoredRun
from eml.tracking.stores import Others, Stores
from eml.tracking.tags import (
    CHECKPOINT,
    NUMBER,
    PARENT,
    PLAN_DIGEST,
    PRUNED_AFTER,
    TRAINING_DIGEST,
    epoch_in,
)


class TrackingError(UserError):
    """The store lacks a run or a part of it; the message says what is missing."""


@store_call
def get(run_id: str) -> StoredRun:
    """The run with this id. Raises TrackingError if there is none."""
    return StoredRun.of(stored_run(run_id))


@store_call
def of_checkpoint(name: str) -> StoredRun | None:
    """The run with this checkpoint; None if the run is not in this store or was deleted."""
    return next(iter(Stores().find({CHECKPOINT: name})), None)


@store_call
def experiment_of(parent: str) -> str:
    """The id of the experiment of a new run with this parent; parent: "" for none.

    "" if the experiment does not exist yet.
    """
    if parent:
        return mlflow.get_run(parent).info.experiment_id
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return experiment_id
    active = mlflow.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default"))
    return active.experiment_id if active else ""


@store_call
def children(parent: str) -> dict[str, StoredRun]:
    """The trainings nested in a run, by training digest: of each the newest."""
    trainings = [run for run in Stores().nested(parent) if TRAINING_DIGEST in run.tags]
    return {run.tags[TRAINING_DIGEST]: run for run in trainings}


@store_call
def threads_beside(parent: str, validation: int) -> int:
    """The threads of the oldest training on the CPU in a parent run; 0 if there is none.

    validation: the number of validation images that it has.
    """
    for run in Stores().nested(parent):
        params, threads = run.params, run.tags.get("threads", "")
        same = params.get("device_type") == "cpu" and params.get("validation") == str(validation)
        if same and NUMBER.fullmatch(threads):
            return int(threads)
    return 0


@store_call
def finished_training(config: Config, parent: str = "", others: Others = ()) -> StoredRun | None:
    """The newest finished run, in any experiment and store, of the training with this Config.

    A run counts only if it has the parameters and a result besides the tag.
    parent: search the runs nested in this run only.
    """
    stores = Stores(others)
    tags = {TRAINING_DIGEST: training_digest(config)} | ({PARENT: parent} if parent else {})
    result = f"final_{config.evaluated}_accuracy"
    for run in stores.find(tags):
        is_training = run.status == FINISHED and not run.why_no_training
        if is_training and ("diverged" in run.tags or len(stores.points([run], [result]))):
            return run
    return None


@store_call
def finished(recipe: str, others: Others = ()) -> StoredRun | None:
    """The newest finished run with this tag `recipe`, in any experiment and store."""
    runs = Stores(others).find({"recipe": recipe})
    return next((run for run in runs if run.status == FINISHED), None)


@store_call
def unfinished_plan(digest: str) -> str | None:
    """The newest parent run with this plan digest, unless that run is over."""
    runs = Stores().find({PLAN_DIGEST: digest})
    return runs[0].run_id if runs and not runs[0].is_over else None


@store_call
def pruned_training(config: Config, epoch: int) -> StoredRun | None:
    """The newest run of this training that a search gave up at this epoch or later."""
    runs = Stores().find({TRAINING_DIGEST: training_digest(config)})
    return next((run for run in runs if epoch_in(run.tags, PRUNED_AFTER) >= epoch), None)


@store_call
def running() -> list[StoredRun]:
    """All runs, in any experiment, whose status in the store is RUNNING."""
    return Stores().search("attributes.status = 'RUNNING'")


def stored_run(run_id: str) -> Run:
    """The run with this id, or with an id that begins with these digits."""
    try:
        return mlflow.get_run(Stores().full_id(run_id))
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        raise TrackingError(f"no run {printable(run_id, 100)} in the store {uri()}") from error
