"""Ends runs that are RUNNING in the store although their process has died."""

import re

from eml.errors import UserError
from eml.tracking import calls, find, runs, tags
from eml.tracking.readers import StoredRun
from eml.tracking.store import is_there, open_store
from eml.training.checkpoints import Slot, claiming, directory

RUNNING = "attributes.status = 'RUNNING'"  # filter of MLflow
NAME = re.compile("[0-9a-f]{1,64}")  # of a digest or a checkpoint


def begin(create: bool = False, makes_run: bool = True) -> None:
    """Open the store (open_store) and end its dead runs; every command calls this first.

    makes_run: whether to check the run that is given (runs.given_run).
    """
    open_store(create)
    if makes_run:
        calls.store_call(runs.given_run)()
    for run in end_dead():
        print(f"{run.name}, run {run.run_id}: its process is gone, so it is KILLED now", flush=True)


def end_dead() -> list[StoredRun]:
    """Mark runs KILLED whose checkpoint is on this machine and whose process died; return them.

    The checkpoints stay, so that the same commands go on. Runs of jobs are left alone: the cluster
    knows the state of its jobs. If the store or the checkpoints cannot be written, no run is ended.
    """
    ended: list[StoredRun] = []
    try:
        if is_there() and directory().exists():
            running = find.search(RUNNING)
            ended += (run for run in running if (slot := _slot_of(run)) and _end(run, slot))
    except (UserError, OSError):
        pass  # if the problem matters to the command, the command reports it
    return ended


def _slot_of(run: StoredRun) -> Slot | None:
    """The slot of a run's checkpoint, if it is on this machine and no job owns the run."""
    digest = run.tags.get(tags.TRAINING_DIGEST) or run.tags.get(tags.PLAN_DIGEST, "")
    name = run.tags.get(tags.CHECKPOINT, "")
    # Anyone may set these tags, and they become a path.
    if tags.JOB in run.tags or not (NAME.fullmatch(digest) and NAME.fullmatch(name)):
        return None
    slot = Slot(digest, name)
    return slot if slot.file.exists() else None


def _end(run: StoredRun, slot: Slot) -> bool:
    """Mark a run KILLED unless its process holds the slot; return whether it does not."""
    with claiming():
        if not slot.acquire():
            return False
        try:
            why = "its process is gone, noticed"
            runs.stop_run(run.run_id, why, ["RUNNING"], calls.SECONDS_TO_CLOSE)
        finally:
            slot.release()
    return True
