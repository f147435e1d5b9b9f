"""The work items, their results, and the Launcher interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from eml.config import Config
from eml.training.cost import Cost


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be trained, and how."""

    config: Config
    parent: str = ""  # the id of the run to nest in; "" for a training of its own
    run_id: str = ""  # of the run that prepare() has made for it
    resume: bool = True  # go on where an interrupted training of the same ended
    borrow: bool = True  # even if that one belongs to something else
    until: int | None = None  # pause after that epoch
    check: bool = False  # compare the hand-written gradients with numerical ones first
    at_once: int = 1  # trainings that share this machine


class Prepared(NamedTuple):
    """A training that waits in its run for another process."""

    run_id: str
    epochs: int  # that are done
    is_there: bool  # where the task wants it: nothing is to be done


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Some batches of a training, to see that it works and how long it takes."""

    config: Config
    number: int = 0  # tells apart several of the same


Job = Task | Probe


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    reason: str = ""  # why it failed
    cost: Cost | None = None  # of a Probe


class Launcher(Protocol):
    """Where jobs are done. Leaving it as a context ends what is still under way."""

    def __enter__(self) -> "Launcher": ...

    def __exit__(self, *_) -> None: ...

    def run(self, jobs: Sequence[Job]) -> dict[Job, Ended]:
        """Do all jobs, and tell how each ended. One that fails takes no other along."""
