"""Runs that are ended, or marked, from outside their process."""

from datetime import UTC, datetime

import mlflow
from mlflow.entities import RunStatus, RunTag

from eml.interrupts import Stopped
from eml.text import printable
from eml.tracking.calls import store_call
from eml.tracking.find import stored_run
from eml.tracking.tags import CANCELLED, PRUNED_AFTER, SLURM_JOB, SLURM_LOG


def when(stopped: Stopped) -> str:
    return f"{stopped} at {now()}"


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


@store_call(patient=False)
def refuse(run_id: str, message: str) -> None:
    """Note in the run that `mlflow run` made why it is about to fail."""
    mlflow.MlflowClient().set_tag(run_id, "error", message)


@store_call(patient=False)
def stop(run_id: str, stopped: Stopped) -> None:
    """End the run that `mlflow run` made, if the signal came before eml had begun to use it.

    When `mlflow run` is gone too, nobody else would.
    """
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_tag(run_id, "stopped", when(stopped))
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@store_call
def prune(run_id: str, epoch: int) -> None:
    """End a paused run that is not to go on. One that was finished before is left as it is."""
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status != RunStatus.to_string(RunStatus.SCHEDULED):
        return
    client.set_tag(run_id, PRUNED_AFTER, str(epoch))
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@store_call(patient=False)
def end_dead(run_id: str) -> None:
    """End a run whose process is gone without a word, unless another has ended or paused it."""
    if stored_run(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        why = f"its process is gone, noticed at {now()}"
        _end_for_it(run_id, RunStatus.KILLED, "stopped", why)


@store_call
def fail(run_id: str, message: str) -> None:
    """End a run as failed whose process is gone, if it is not over."""
    _end_for_it(run_id, RunStatus.FAILED, "error", message)


@store_call
def cancel(run_id: str) -> None:
    """End a run as stopped whose process is gone, or which never had one, if it is not over."""
    _end_for_it(run_id, RunStatus.KILLED, "stopped", f"cancelled at {now()}")


def _end_for_it(run_id: str, status: int, tag: str, message: str) -> None:
    client = mlflow.MlflowClient()
    if RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status)):
        return
    client.set_tag(run_id, tag, printable(message))
    client.set_terminated(run_id, RunStatus.to_string(status))


@store_call
def note_job(run_id: str, job: str, log: str) -> None:
    """Note the job of Slurm that is to train in a run, and the file that it writes to."""
    tags = [RunTag(SLURM_JOB, job), RunTag(SLURM_LOG, log)]
    mlflow.MlflowClient().log_batch(run_id, tags=tags)


@store_call
def mark_cancelled(parent: str) -> None:
    """Tell the process that waits for the trainings of this run that they are cancelled."""
    mlflow.MlflowClient().set_tag(parent, CANCELLED, now())


@store_call
def is_cancelled() -> bool:
    """Whether the active run, if there is one, has been marked as cancelled."""
    active = mlflow.active_run()
    return active is not None and CANCELLED in mlflow.get_run(active.info.run_id).data.tags
