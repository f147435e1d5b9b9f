"""Runs that an interrupted process left, and how the next one goes on with them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from eml import tracking
from eml.checkpoints import Checkpoint, Place, free_places, new_place
from eml.store import open_store
from eml.tracking import CHECKPOINT, Paused, Unfinished


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
    """A run (tracking.run) that goes on where an interrupted one with this digest ended.

    If that one has the same parent and experiment, it goes on itself; but `mlflow run` has always
    made a new one, which then takes over what the old one has. Any other is left as it is, and a
    new run begins with a copy of what it has. The checkpoint is kept until the run is finished.

    digest: of what the run does (identity.py). resume: False begins afresh. borrow: False takes no
    copies.
    """
    open_store()
    same, others = _interrupted(digest, parent)
    old = next(iter([*same, *(others if borrow else [])]), None) if resume else None
    for place, _ in [*same, *others]:
        if old is None or place is not old[0]:
            place.release()
    checkpoint = old[0].load() if old else None
    given = "" if parent else os.environ.get("MLFLOW_RUN_ID", "")
    own = old if old in same else None
    goes_on = own is not None and given in ("", own[1].run_id)
    if goes_on:
        places = [own[0]]
    else:
        # Before there is a run: a process that is killed between the two leaves no run behind that
        # the next one does not find.
        places = [new_place(digest), *([old[0]] if old else [])]
        places[0].save(checkpoint or Checkpoint([], [], {}))
    try:
        with tracking.run(
            name,
            description,
            {**tags, CHECKPOINT: places[0].name},
            parent=parent,
            go_on_in=own[1].run_id if goes_on else "",
            take_over=own[1].run_id if own and not goes_on else "",
            before=old[1].tags if old else {},
        ) as run_id:
            yield Resumed(run_id, places[0], checkpoint or Checkpoint([], [], {}), new=not goes_on)
    except Paused:
        pass
    else:
        # Whatever else was interrupted of it here is superseded.
        superseded, others = _interrupted(digest, parent)
        for place, _ in superseded:
            place.remove()
        for place, _ in others:
            place.release()
        places[0].remove()
        if own:
            own[0].remove()
    finally:
        for place in places:
            place.release()


def _interrupted(
    digest: str, parent: str
) -> tuple[list[tuple[Place, Unfinished]], list[tuple[Place, Unfinished]]]:
    """Unfinished runs of this store with this digest, newest first, each with its place, held.

    First those with this parent, in the experiment where a new run would be made; then the others.
    """
    here = (parent, tracking.experiment_of(parent))
    same, others = [], []
    for place in free_places(digest):
        run = tracking.of_checkpoint(place.name)
        if place.load() is None or (run and run.is_over):
            place.remove()  # damaged, or of no use any more
        elif run is None:
            place.release()  # another store's
        else:
            (same if (run.parent, run.experiment_id) == here else others).append((place, run))
    return same, others
