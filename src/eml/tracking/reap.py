"""Ends runs that are RUNNING in the store although their process has died."""

import re
from collections.abc import Sequence

from eml.errors import UserError, printable
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
        print(f"{_line(run)}: its process is gone, so it is KILLED now", flush=True)


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


def _end(run: StoredRun, slot: Slot | None) -> bool:
    """Mark a run KILLED unless its process holds the slot; return whether it does not."""
    with claiming():
        if slot and not slot.acquire():
            return False
        try:
            why = "its process is gone, noticed"
            runs.stop_run(run.run_id, why, ["RUNNING"], calls.SECONDS_TO_CLOSE)
        finally:
            if slot:
                slot.release()
    return True


def reap(run_ids: Sequence[str]) -> None:
    """End dead runs, and list the other runs that are RUNNING in the store.

    run_ids: runs to end although this machine cannot tell whether their processes live.

    Raises UserError if one of them is not RUNNING, or its process lives.
    """
    open_store(create=False)
    ended = end_dead()
    for run in ended:
        print(f"ended: {_line(run)}: its process is gone; the same command goes on with it")
    for run in [find.get(run_id) for run_id in run_ids]:
        if run.status != "RUNNING":
            raise UserError(f"{_line(run)} is not RUNNING but {run.status}: give one that is")
        if not _end(run, _slot_of(run)):
            raise UserError(f"{_line(run)}: its process lives, stop that (Ctrl-C, kill)")
        ended.append(run)
        print(f"ended: {_line(run)}")
    left = find.search(RUNNING)
    for run in left:
        job = printable(run.tags.get(tags.JOB, ""), 50)
        why = f"job {job} has it" if job else "`eml reap RUN_ID` ends it if its process is gone"
        print(f"left as it is: {_line(run)}: {why}")
    if not ended and not left:
        print("no run is RUNNING")


def _line(run: StoredRun) -> str:
    return f"{run.name}, run {run.run_id}"
