"""Ends or marks runs from outside the process that trains in them."""

from datetime import UTC, datetime

import mlflow
from mlflow.entities import RunStatus, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from eml.errors import printable
from eml.machine import Stopped
from eml.tracking.calls import SECONDS_TO_CLOSE, store_call
from eml.tracking.find import stored_run
from eml.tracking.mlflow_run import GENERATED_NAME
from eml.tracking.tags import CANCELLED, JOB, JOB_LOG, PRUNED_AFTER


def when(stopped: Stopped) -> str:
    return f"{stopped} at {now()}"


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


@store_call(once=SECONDS_TO_CLOSE)
def refuse(run_id: str, message: str, command: str) -> None:
    """Tag the run that `mlflow run` made with the reason why it is about to fail.

    command: the one that was refused, "" if it is none of eml's. It becomes the tag `recipe` of a
    run that had not begun, and its name unless its user has named it.
    """
    client = mlflow.MlflowClient()
    client.set_tag(run_id, "error", message)
    run = client.get_run(run_id)
    if command and "recipe" not in run.data.tags:
        client.set_tag(run_id, "recipe", command)
        if GENERATED_NAME.fullmatch(run.info.run_name):
            client.set_tag(run_id, MLFLOW_RUN_NAME, f"{command}, refused")


@store_call(once=SECONDS_TO_CLOSE)
def stop(run_id: str, stopped: Stopped) -> None:
    """Mark the run that `mlflow run` made KILLED, if a signal came before eml used the run.

    If `mlflow run` has died too, no other process would do so.
    """
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_tag(run_id, "stopped", when(stopped))
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@store_call
def prune(run_id: str, epoch: int) -> None:
    """Mark a paused run KILLED: its search gave the training up. A finished run stays FINISHED."""
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status != RunStatus.to_string(RunStatus.SCHEDULED):
        return
    client.set_tag(run_id, PRUNED_AFTER, str(epoch))
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@store_call(once=SECONDS_TO_CLOSE)
def end_dead(run_id: str) -> None:
    """Mark a run KILLED whose process died, unless another process has ended or paused the run."""
    if stored_run(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        why = f"its process is gone, noticed at {now()}"
        _end_for_it(run_id, RunStatus.KILLED, "stopped", why)


@store_call
def fail(run_id: str, message: str) -> None:
    """Mark a run FAILED on behalf of a process that died, unless the run has already ended."""
    _end_for_it(run_id, RunStatus.FAILED, "error", message)


@store_call
def cancel(run_id: str) -> None:
    """Mark a run KILLED that was cancelled, unless the run has already ended."""
    _end_for_it(run_id, RunStatus.KILLED, "stopped", f"cancelled at {now()}")


def _end_for_it(run_id: str, status: int, tag: str, message: str) -> None:
    client = mlflow.MlflowClient()
    if RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status)):
        return
    client.set_tag(run_id, tag, printable(message))
    client.set_terminated(run_id, RunStatus.to_string(status))


@store_call
def note_job(run_id: str, job: str, log: str) -> None:
    """Tag a run with the job that will train in it, and with the log file of the job."""
    tags = [RunTag(JOB, job), RunTag(JOB_LOG, log)]
    mlflow.MlflowClient().log_batch(run_id, tags=tags)


@store_call
def mark_cancelled(parent: str) -> None:
    """Tag a parent run as cancelled, which ends the process that waits for its trainings."""
    mlflow.MlflowClient().set_tag(parent, CANCELLED, now())


@store_call
def is_cancelled() -> bool:
    """Whether `eml cancel` has marked the active run, if there is one."""
    active = mlflow.active_run()
    return active is not None and CANCELLED in mlflow.get_run(active.info.run_id).data.tags
