"""Continues the runs that interrupted processes left, from their checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from eml.errors import UserError
from eml.machine import given_run_id
from eml.tracking import find, log, runs
from eml.tracking.readers import StoredRun
from eml.tracking.store import make_store
from eml.tracking.tags import CHECKPOINT, JOB, JOB_LOG, of_all_machines
from eml.training.checkpoints import Checkpoint, Slot, directory, free_slots, new_slot

EMPTY = Checkpoint([], {})  # of a training that has not begun


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
def continued_run(
    digest: str,
    name: str,
    description: str,
    tags: Mapping[str, str],
    *,
    resume: bool,
    parent: str = "",
    copy_from_others: bool = True,
) -> Iterator[Resumed]:
    """Begin a run (runs.run) that continues where an interrupted run with this digest ended.

    An interrupted run with the same parent and experiment continues itself, unless `mlflow run`
    has made a new run, which then takes over the old one's epochs. An interrupted run elsewhere
    stays as it is, and a new run begins with a copy of its checkpoint (copy_from_others).

    digest: training or plan digest (digests.py). resume: False starts anew.
    """
    make_store()
    with ExitStack() as held:
        interrupted = _interrupted(digest, parent, held)
        usable = [one for one in interrupted if resume and (one.same_place or copy_from_others)]
        # A damaged checkpoint, which has no epoch, is of less use than one of a run elsewhere.
        old = max(usable, key=lambda o: (bool(o.checkpoint.records), o.same_place), default=None)
        checkpoint = old.checkpoint if old else EMPTY
        former = old.run.run_id if old and old.same_place else ""
        goes_on = bool(old and former and _goes_on(old, parent))
        # The slot comes first: a process killed before the run begins leaves no run without one.
        slot = old.slot if old and goes_on else new_slot(digest, checkpoint)
        before = old.run.tags if old and checkpoint.records else {}
        tags = {**of_all_machines(before, tags), CHECKPOINT: slot.name}
        place = {"parent": parent, "run_id" if goes_on else "take_over": former}
        for one in interrupted:
            if not one.same_place:  # stays as it is, and may go on meanwhile
                one.slot.release()
        with _kept(slot), runs.run(name, description, tags, **place) as run_id:
            yield Resumed(run_id, slot, checkpoint, new=not goes_on)
            for one in interrupted:
                if one.same_place and one.slot is not slot:  # superseded by this run
                    one.slot.remove()


@contextmanager
def prepared_run(
    run_id: str, digest: str, name: str, description: str, tags: Mapping[str, str]
) -> Iterator[Resumed | None]:
    """Continue the run with this id, which another process prepared; yield None if it is over.

    Waits while another process holds the run's slot. Otherwise like continued_run().
    """
    slot = Slot(digest, find.get(run_id).tags[CHECKPOINT])
    slot.acquire(wait=True)
    with _kept(slot):
        stored = find.get(run_id)  # read again after the wait
        if stored.is_over:
            yield None
            return
        checkpoint = slot.load()
        if checkpoint is None:
            raise UserError(
                f"{directory()} has no checkpoint of run {run_id} that this code can continue: "
                "every node has to see this folder (EML_CHECKPOINT_DIR); if eml has changed since, "
                "give the command again"
            )
        in_job = {key: stored.tags[key] for key in (JOB, JOB_LOG) if key in stored.tags}
        tags = {**of_all_machines(stored.tags, tags), **in_job}
        with runs.run(name, description, tags, parent=stored.parent, run_id=run_id):
            yield Resumed(run_id, slot, checkpoint, new=False)


@contextmanager
def _kept(slot: Slot) -> Iterator[None]:
    """Remove a slot at the end of this context, but keep it after Paused or an error."""
    try:
        with suppress(runs.Paused):
            yield
            slot.remove()
    finally:
        slot.release()


class _Interrupted(NamedTuple):
    slot: Slot  # held
    run: StoredRun
    checkpoint: Checkpoint
    same_place: bool  # whether it has the parent and the experiment of the new run


def _interrupted(digest: str, parent: str, held: ExitStack) -> list[_Interrupted]:
    """The interrupted runs of this store with this digest, newest first; `held` has their slots."""
    place = (parent, find.experiment_of(parent))
    interrupted = []
    for slot in free_slots(digest):
        held.callback(slot.release)
        run = next(iter(find.search({CHECKPOINT: slot.name})), None)
        checkpoint = slot.load()
        if run is None and checkpoint:
            slot.release()  # belongs to another store
        elif run is None or run.is_over:
            slot.remove()
        else:
            if checkpoint is None:
                print(f"the checkpoint of run {run.run_id} is damaged and of no use", flush=True)
            same_place = (run.parent, run.experiment_id) == place
            interrupted.append(_Interrupted(slot, run, checkpoint or EMPTY, same_place))
    return interrupted


def _goes_on(old: _Interrupted, parent: str) -> bool:
    """Whether an interrupted run continues itself; otherwise a new run takes it over.

    A run may hold epochs that its checkpoint lacks (full disk, damaged file). It would get them
    again with another clock, and a run's points cannot be deleted.
    """
    if theirs := "" if parent else given_run_id():
        return theirs == old.run.run_id
    ahead = log.logged_epochs(old.run.run_id) - {r.epoch for r in old.checkpoint.records}
    if ahead:
        print(
            f"run {old.run.run_id} has {len(ahead)} epochs that its checkpoint lacks: a new run "
            "takes its place, and trains them again",
            flush=True,
        )
    return not ahead
