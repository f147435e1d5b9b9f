"""Ends runs that are RUNNING in the store although their process has died."""

import re
import time
from collections.abc import Sequence

from eml.errors import UserError, printable
from eml.tracking import find, runs
from eml.tracking.store import is_there, open_store
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import CHECKPOINT, JOB, PLAN_DIGEST, TRAINING_DIGEST
from eml.training.checkpoints import Slot, claiming, directory

NAME = re.compile("[0-9a-f]{1,64}")  # of a digest or a checkpoint


def begin(create: bool = False) -> None:
    """Open the store (open_store) and end its dead runs; every command calls this first."""
    open_store(create)
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
            ended += (run for run in find.running() if (slot := _slot_of(run)) and _end(run, slot))
    except (UserError, OSError):
        pass  # if the problem matters to the command, the command reports it
    return ended


def _slot_of(run: StoredRun) -> Slot | None:
    """The slot of a run's checkpoint, if it is on this machine and no job owns the run."""
    digest = run.tags.get(TRAINING_DIGEST) or run.tags.get(PLAN_DIGEST, "")
    name = run.tags.get(CHECKPOINT, "")
    # Anyone may set these tags, and they become a path.
    if JOB in run.tags or not (NAME.fullmatch(digest) and NAME.fullmatch(name)):
        return None
    slot = Slot(digest, name)
    return slot if slot.file.exists() else None


def _end(run: StoredRun, slot: Slot | None) -> bool:
    """Mark a run KILLED unless its process holds the slot; return whether it does not."""
    with claiming():
        if slot and not slot.acquire():
            return False
        try:
            runs.stop_run(run.run_id, "its process is gone, noticed")
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
    left = find.running()
    for run in left:
        print(f"left as it is: {_line(run)}: {_why(run)}")
    if any(map(_never_began, left)):
        print("`eml reap RUN_ID ...` ends what never began")
    if not ended and not left:
        print("no run is RUNNING")


def _why(run: StoredRun) -> str:
    if JOB in run.tags:
        return f"job {printable(run.tags[JOB], 50)} of a cluster has it: `eml plan` shows its state"
    if _slot_of(run):
        return "its process lives"
    if _never_began(run):
        minutes = (time.time() - run.start_time / 1000) / 60
        return (
            f"`mlflow run` made it {minutes:.0f} minutes ago, and eml never began: an environment "
            "that is being built, or that could not be (no conda: --env-manager local)"
        )
    return "its checkpoint is not on this machine"


def _never_began(run: StoredRun) -> bool:
    return "mlflow.project.entryPoint" in run.tags and "recipe" not in run.tags


def _line(run: StoredRun) -> str:
    return f"{run.name}, run {run.run_id}"
