"""Looks up runs in the store by id, checkpoint, parent or digest."""

import os
from dataclasses import asdict

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from eml.config import Config
from eml.errors import UserError
from eml.text import printable
from eml.tracking.calls import store_call, uri
from eml.tracking.digests import training_digest
from eml.tracking.store import full_run_id, is_there
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import (
    CHECKPOINT,
    NUMBER,
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
    found = search(f"tags.{CHECKPOINT} = '{name}'")
    return StoredRun.of(found[0]) if found else None


@store_call
def experiment_of(parent: str) -> str:
    """The id of the experiment of a new run with this parent; parent: "" for none.

    "" if the experiment does not exist yet.
    """
    if parent:
        return mlflow.get_run(parent).info.experiment_id
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    active = mlflow.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default"))
    return active.experiment_id if active else ""


@store_call
def children(parent: str) -> dict[str, StoredRun]:
    """The trainings nested in a run, by training digest: of each the newest."""
    newest_last = [run for run in nested_runs(parent)[::-1] if TRAINING_DIGEST in run.data.tags]
    return {run.data.tags[TRAINING_DIGEST]: StoredRun.of(run) for run in newest_last}


def nested_runs(parent: str) -> list[Run]:
    """All runs nested in a run, newest first."""
    client = mlflow.MlflowClient()
    experiment, token = experiment_of(parent), None
    found: list[Run] = []
    while token != "":
        page = client.search_runs(
            [experiment],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'",
            max_results=1000,
            page_token=token,
        )
        found += page
        token = page.token or ""
    return found


@store_call
def threads_beside(parent: str, validation: int) -> int:
    """The threads of the oldest training on the CPU in a parent run; 0 if there is none.

    validation: the number of validation images that it has.
    """
    for run in nested_runs(parent)[::-1]:
        params, threads = run.data.params, run.data.tags.get("threads", "")
        same = params.get("device_type") == "cpu" and params.get("validation") == str(validation)
        if same and NUMBER.fullmatch(threads):
            return int(threads)
    return 0


@store_call
def is_child(run_id: str, parent: str) -> bool:
    """Whether a run is nested in the run `parent`."""
    return mlflow.get_run(run_id).data.tags.get(MLFLOW_PARENT_RUN_ID) == parent


@store_call
def finished_training(config: Config, parent: str = "") -> str | None:
    """The newest finished run, in any experiment, of the training with this Config.

    A run counts only if it has the parameters and a result besides the tag.
    parent: search the runs nested in this run only.
    """
    digest = training_digest(config)
    chosen = f"tags.{TRAINING_DIGEST} = '{digest}' and attributes.status = 'FINISHED'"
    if parent:
        chosen += f" and tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
    result = f"final_{config.evaluated}_accuracy"
    for run in search(chosen, most=20):
        has_config = asdict(config).keys() <= run.data.params.keys()
        if has_config and (result in run.data.metrics or "diverged" in run.data.tags):
            return run.info.run_id
    return None


@store_call
def finished(recipe: str) -> str | None:
    """The newest finished run with this tag `recipe`, in any experiment."""
    found = search(f"tags.recipe = '{recipe}' and attributes.status = 'FINISHED'")
    return found[0].info.run_id if found else None


@store_call
def unfinished_plan(digest: str) -> str | None:
    """The newest parent run with this plan digest, unless that run is over."""
    found = search(f"tags.{PLAN_DIGEST} = '{digest}'")
    return found[0].info.run_id if found and not StoredRun.of(found[0]).is_over else None


@store_call
def pruned_training(config: Config, epoch: int) -> str | None:
    """The newest run of this training that a search gave up, if it reached this epoch."""
    digest = training_digest(config)
    found = search(f"tags.{TRAINING_DIGEST} = '{digest}' and tags.{PRUNED_AFTER} LIKE '%'")
    enough = found and epoch_in(found[0].data.tags, PRUNED_AFTER) >= epoch
    return found[0].info.run_id if enough else None


@store_call
def running() -> list[StoredRun]:
    """All runs, in any experiment, whose status in the store is RUNNING."""
    return [StoredRun.of(run) for run in search("attributes.status = 'RUNNING'", most=1000)]


def search(filter_string: str, most: int = 1) -> list[Run]:
    """The newest runs, in any experiment, that the filter selects; [] if there is no store."""
    if not is_there():
        return []
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, filter_string, max_results=most)


def stored_run(run_id: str) -> Run:
    """The run with this id, or with an id that begins with these digits."""
    try:
        return mlflow.get_run(full_run_id(run_id))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise TrackingError(f"no run {printable(run_id, 100)} in the store {uri()}") from error
