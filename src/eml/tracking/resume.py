"""Continues the runs that interrupted processes left, from their checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from eml.errors import UserError
from eml.machine import Stopped, given_run_id
from eml.tracking import find, log, runs
from eml.tracking.readers import StoredRun
from eml.tracking.store import make_store
from eml.tracking.tags import CHECKPOINT, JOB, JOB_LOG, of_all_machines
from eml.training.checkpoints import Checkpoint, Slot, claiming, directory, new_slot, slots

EMPTY = Checkpoint([], {})  # of a training that has not begun


@dataclass(frozen=True)
class Resumed:
    """A run under way, the slot of its checkpoint, and the checkpoint to continue from."""

    run_id: str
    slot: Slot
    checkpoint: Checkpoint


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

    Of several the one with the most epochs counts. If it has the same parent and experiment, it
    continues itself, unless `mlflow run` has made a new run, which then takes over its epochs.
    Elsewhere it stays as it is, and a new run begins with a copy of its checkpoint
    (copy_from_others).

    digest: training or plan digest (digests.py). resume: False starts anew.

    Raises UserError if a living process has the run that would be continued.
    """
    make_store()
    with ExitStack() as held:
        claim = held.enter_context(claiming())  # until others can see that this run has begun
        begun = _begun(digest, parent, copy_from_others, held)
        old = begun[0] if begun and resume else None
        if old and old.lives:
            raise UserError(
                f"another process trains this already (run {old.run.run_id}): wait for its end, or "
                "give resume=false to train it once more"
            )
        checkpoint = old.checkpoint if old else EMPTY
        former = old.run.run_id if old and old.same_place else ""
        fresh = not parent and given_run_id()  # `mlflow run` has made a new run
        goes_on = bool(old and former and not fresh and _is_whole(old))
        # The slot comes first: a process killed before the run begins leaves no run without one.
        slot = old.slot if old and goes_on else new_slot(digest, checkpoint)
        before = old.run.tags if old and checkpoint.records else {}
        tags = {**of_all_machines(before, tags), CHECKPOINT: slot.name}
        place = {"parent": parent, "run_id" if goes_on else "take_over": former}
        for one in begun:
            if not one.same_place:  # stays as it is, and may go on meanwhile
                one.slot.release()
        with _kept(slot), runs.run(name, description, tags, **place) as run_id:
            claim.release()
            yield Resumed(run_id, slot, checkpoint)
            for one in begun:
                if one.same_place and one.slot is not slot and not one.lives:
                    one.slot.remove()  # superseded by this run


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
            yield Resumed(run_id, slot, checkpoint)


@contextmanager
def _kept(slot: Slot) -> Iterator[None]:
    """Remove a slot at the end of this context, but keep it after Paused or an error."""
    try:
        with suppress(runs.Paused):
            yield
            slot.remove()
    except Stopped as stopped:
        stopped.epoch = (slot.load() or EMPTY).epochs
        raise
    finally:
        slot.release()


class Begun(NamedTuple):
    """A run that is not over, with its checkpoint."""

    slot: Slot
    run: StoredRun
    checkpoint: Checkpoint
    same_place: bool  # whether it has the parent and the experiment of the new run
    lives: bool  # whether its process holds the slot; otherwise this process does


def to_continue(digest: str, parent: str | None, copy_from_others: bool) -> Begun | None:
    """The run that continued_run() would continue, or refuse because it lives; None without one.

    parent: None for a parent run that is not made yet.
    """
    if not slots(digest):  # so that a look makes no folder
        return None
    with claiming(), ExitStack() as held:
        return next(iter(_begun(digest, parent, copy_from_others, held)), None)


def _begun(digest: str, parent: str | None, copy_from_others: bool, held: ExitStack) -> list[Begun]:
    """The runs with this digest that are not over and count as continued_run() says, best first.

    A run whose process lives counts in the same place; below a parent the parent's process counts.
    `held` has the slots of the others, and releases them.
    """
    place = None if parent is None else (parent, find.experiment_of(parent))
    begun = []
    for slot in slots(digest):
        lives = not slot.acquire()
        checkpoint = slot.load()
        run = next(iter(find.search({CHECKPOINT: slot.name})), None)
        if run and not run.is_over:
            if checkpoint is None:
                print(f"the checkpoint of run {run.run_id} is damaged and of no use", flush=True)
            same_place = (run.parent, run.experiment_id) == place
            if (same_place and not parent) if lives else (same_place or copy_from_others):
                begun.append(Begun(slot, run, checkpoint or EMPTY, same_place, lives))
                held.callback(slot.release)
                continue
        elif not lives and (run or not checkpoint):  # else it belongs to another store
            slot.remove()
        slot.release()
    # A damaged checkpoint has no records: it is of less use than any other.
    begun.sort(key=lambda b: (b.lives, len(b.checkpoint.records), b.same_place), reverse=True)
    return begun


def _is_whole(old: Begun) -> bool:
    """Whether the checkpoint of an interrupted run has all its epochs; otherwise say so.

    A run may hold epochs that its checkpoint lacks (full disk, damaged file). It would get them
    again with another clock, and a run's points cannot be deleted.
    """
    ahead = log.logged_epochs(old.run.run_id) - {r.epoch for r in old.checkpoint.records}
    if ahead:
        print(
            f"epochs of run {old.run.run_id} that its checkpoint lacks: {len(ahead)}. A new run "
            "takes its place, and trains them again",
            flush=True,
        )
    return not ahead
