"""Runs that an interrupted process left, and how the next one goes on with them."""

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
from eml.tracking.tags import CHECKPOINT, SLURM_JOB, SLURM_LOG, TRAINING_DIGEST
from eml.training.checkpoints import Checkpoint, Place, directory, free_places, new_place

EMPTY = Checkpoint([], [], {})  # of a training that has not begun


@dataclass(frozen=True)
class Resumed:
    """A run under way, its place for checkpoints, and the checkpoint that it goes on from.

    new: whether it has begun just now, and at most the checkpoint is an older run's.
    """

    run_id: str
    place: Place
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
    borrow: bool = True,
) -> Iterator[Resumed]:
    """A run (runs.run) that goes on where an interrupted one with this digest ended.

    If that one has the same parent and experiment, it goes on itself; but `mlflow run` has always
    made a new one, which then takes over what the old one has. Any other is left as it is, and a
    new run begins with a copy of what it has. The checkpoint is kept until the run is finished.

    digest: of what the run does (digests.py). resume: False begins afresh. borrow: False takes no
    copies.
    """
    make_store()
    same, others = _interrupted(digest, parent)
    candidates = [*same, *(others if borrow else [])] if resume else []
    # The newest that has an epoch, because a damaged one has none.
    begun = [one for one in candidates if one.checkpoint.records]
    old = next(iter([*begun, *candidates]), None)
    for other in [*same, *others]:
        if other is not old:
            other.place.release()
    checkpoint = old.checkpoint if old else EMPTY
    given = "" if parent else given_run_id()
    # Its own run can be used again; or be taken over; a copy of another's is neither.
    own = old if old in same else None
    goes_on = own is not None and (given == own.run.run_id or (not given and not _is_ahead(own)))
    # Before there is a run: a process that is killed between the two leaves no run behind that the
    # next one does not find.
    place = own.place if own and goes_on else new_place(digest, checkpoint)
    try:
        with runs.run(
            name,
            description,
            {**tags, CHECKPOINT: place.name},
            parent=parent,
            go_on_in=own.run.run_id if own and goes_on else "",
            take_over=own.run.run_id if own and not goes_on else "",
            before=old.run.tags if old and checkpoint.records else {},
        ) as run_id:
            yield Resumed(run_id, place, checkpoint, new=not goes_on)
    except Paused:
        pass
    else:
        if own:
            own.place.remove()
        place.remove()
        # Whatever else was interrupted of it here is superseded. The run is over in any case.
        with suppress(StoreError):
            superseded, others = _interrupted(digest, parent)
            for former in superseded:
                former.place.remove()
            for other in others:
                other.place.release()
    finally:
        place.release()
        if old:
            old.place.release()


@contextmanager
def go_on(
    run_id: str, digest: str, name: str, description: str, tags: Mapping[str, str]
) -> Iterator[Resumed | None]:
    """The run with this id, which another process has made for this one. None if it is over.

    Waits while another process has it in hand. Otherwise like run().
    """
    found = find.get(run_id)
    if found.tags[TRAINING_DIGEST] != digest:
        raise UserError(
            f"eml's code has changed since run {run_id} was made: give the command again"
        )
    place = Place(digest, found.tags[CHECKPOINT])
    place.hold(wait=True)
    try:
        found = find.get(run_id)  # as the other process has left it
        if found.is_over:
            place.remove()
            yield None
            return
        checkpoint = place.load()
        if checkpoint is None:
            raise UserError(
                f"the checkpoint of run {run_id} is not in {directory()}, or is damaged: every "
                "node has to see this folder (EML_CHECKPOINT_DIR)"
            )
        in_job = {key: found.tags[key] for key in (SLURM_JOB, SLURM_LOG) if key in found.tags}
        with runs.run(
            name,
            description,
            {**tags, **in_job},
            parent=found.parent,
            go_on_in=run_id,
            before=found.tags,
        ):
            yield Resumed(run_id, place, checkpoint, new=False)
        place.remove()
    except Paused:
        pass
    finally:
        place.release()


class _Interrupted(NamedTuple):
    place: Place  # held
    run: StoredRun
    checkpoint: Checkpoint


def _is_ahead(old: _Interrupted) -> bool:
    """Whether a run holds epochs that its checkpoint lacks, for want of disk space or by damage.

    These would be trained again, by another clock, and no point can be taken out of a run.
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
    """Found runs of this store with this digest, newest first.

    First those with this parent, in the experiment where a new run would be made; then the others.
    """
    here = (parent, find.experiment_of(parent))
    same: list[_Interrupted] = []
    others: list[_Interrupted] = []
    for place in free_places(digest):
        run = find.of_checkpoint(place.name)
        checkpoint = place.load()
        if run is None and checkpoint:
            place.release()  # another store's
            continue
        if run is None or run.is_over:
            place.remove()  # of no use any more
            continue
        if checkpoint is None:
            print(f"the checkpoint of run {run.run_id} is damaged and of no use", flush=True)
        where = (run.parent, run.experiment_id)
        (same if where == here else others).append(_Interrupted(place, run, checkpoint or EMPTY))
    return same, others
