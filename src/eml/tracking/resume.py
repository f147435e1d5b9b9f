"""Continues the runs that interrupted processes left, from their checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from eml.errors import UserError
from eml.tracking import find, log, runs
from eml.tracking.calls import StoreError
from eml.tracking.mlflow_run import given_run_id
from eml.tracking.runs import Paused
from eml.tracking.store import make_store
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import CHECKPOINT, JOB, JOB_LOG, TRAINING_DIGEST
from eml.training.checkpoints import Checkpoint, Slot, directory, free_slots, new_slot

EMPTY = Checkpoint([], [], {})  # of a training that has not begun


@dataclass(frozen=True)
class Resumed:
    """A run under way, the slot of its checkpoint, and the checkpoint to continue from.

    new: whether the run has just been created; its checkpoint may be a copy of an older run's.
    """

    run_id: str
    slot: Slot
    checkpoint: Checkpoint
    new: bool


@contextmanager
def run(
    digest: str,
    name: str,
    description: str,
    tags: Mapping[str, str],
    *,
    resume: bool,
    parent: str = "",
    copy_from_others: bool = True,
) -> Iterator[Resumed]:
    """A run (runs.run) that continues where an interrupted run with this digest ended.

    An interrupted run with the same parent and experiment continues itself, unless `mlflow run`
    has made a new run: the new run then takes over the old run's epochs. An interrupted run
    elsewhere stays as it is, and a new run begins with a copy of its checkpoint. The checkpoint
    is kept until the run is finished.

    digest: training or plan digest (digests.py). resume: False starts anew. copy_from_others: False
    copies no checkpoints of runs elsewhere.
    """
    make_store()
    same, others = _interrupted(digest, parent)
    candidates = [*same, *(others if copy_from_others else [])] if resume else []
    # Prefer the newest with an epoch: a damaged checkpoint has none.
    begun = [one for one in candidates if one.checkpoint.records]
    old = next(iter([*begun, *candidates]), None)
    for other in [*same, *others]:
        if other is not old:
            other.slot.release()
    checkpoint = old.checkpoint if old else EMPTY
    given = "" if parent else given_run_id()
    # Only a run with the same parent and experiment can be continued or taken over.
    own = old if old in same else None
    goes_on = own is not None and (given == own.run.run_id or (not given and not _is_ahead(own)))
    # The slot comes before the run: a process that is killed between the two leaves no run that the
    # next process cannot find.
    slot = own.slot if own and goes_on else new_slot(digest, checkpoint)
    try:
        with runs.run(
            name,
            description,
            {**tags, CHECKPOINT: slot.name},
            parent=parent,
            go_on_in=own.run.run_id if own and goes_on else "",
            take_over=own.run.run_id if own and not goes_on else "",
            before=old.run.tags if old and checkpoint.records else {},
        ) as run_id:
            yield Resumed(run_id, slot, checkpoint, new=not goes_on)
    except Paused:
        pass
    else:
        if own:
            own.slot.remove()
        slot.remove()
        # Other interrupted runs of this training are superseded. This run is over in any case.
        with suppress(StoreError):
            superseded, others = _interrupted(digest, parent)
            for former in superseded:
                former.slot.remove()
            for other in others:
                other.slot.release()
    finally:
        slot.release()
        if old:
            old.slot.release()


@contextmanager
def go_on(
    run_id: str, digest: str, name: str, description: str, tags: Mapping[str, str]
) -> Iterator[Resumed | None]:
    """The run with this id, which another process made for this process; None if it is over.

    Waits while another process holds the run's slot. Otherwise like run().
    """
    found = find.get(run_id)
    if found.tags[TRAINING_DIGEST] != digest:
        raise UserError(
            f"eml's code has changed since run {run_id} was made: give the command again"
        )
    slot = Slot(digest, found.tags[CHECKPOINT])
    slot.acquire(wait=True)
    try:
        found = find.get(run_id)  # read again after the wait
        if found.is_over:
            slot.remove()
            yield None
            return
        checkpoint = slot.load()
        if checkpoint is None:
            raise UserError(
                f"the checkpoint of run {run_id} is not in {directory()}, or is damaged: every "
                "node has to see this folder (EML_CHECKPOINT_DIR)"
            )
        in_job = {key: found.tags[key] for key in (JOB, JOB_LOG) if key in found.tags}
        with runs.run(
            name,
            description,
            {**tags, **in_job},
            parent=found.parent,
            go_on_in=run_id,
            before=found.tags,
        ):
            yield Resumed(run_id, slot, checkpoint, new=False)
        slot.remove()
    except Paused:
        pass
    finally:
        slot.release()


class _Interrupted(NamedTuple):
    slot: Slot  # held
    run: StoredRun
    checkpoint: Checkpoint


def _is_ahead(old: _Interrupted) -> bool:
    """Whether a run holds epochs that its checkpoint lacks (full disk, damaged file).

    These epochs would be logged twice, with another clock, and a run's points cannot be deleted.
    """
    ahead = log.logged_epochs(old.run.run_id) - {r.epoch for r in old.checkpoint.records}
    if ahead:
        print(
            f"run {old.run.run_id} has {len(ahead)} epochs that its checkpoint lacks: a new run "
            "takes its place, and trains them again",
            flush=True,
        )
    return bool(ahead)


def _interrupted(digest: str, parent: str) -> tuple[list[_Interrupted], list[_Interrupted]]:
    """Interrupted runs of this store with this digest, newest first, in two lists.

    First the runs with this parent, in the experiment of a new run; then all others.
    """
    here = (parent, find.experiment_of(parent))
    same: list[_Interrupted] = []
    others: list[_Interrupted] = []
    for slot in free_slots(digest):
        run = find.of_checkpoint(slot.name)
        checkpoint = slot.load()
        if run is None and checkpoint:
            slot.release()  # belongs to another store
            continue
        if run is None or run.is_over:
            slot.remove()  # its run is over or deleted
            continue
        if checkpoint is None:
            print(f"the checkpoint of run {run.run_id} is damaged and of no use", flush=True)
        where = (run.parent, run.experiment_id)
        (same if where == here else others).append(_Interrupted(slot, run, checkpoint or EMPTY))
    return same, others
