"""The work items, their results, and the Launcher base class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

from eml.config import Config, resolve_device
from eml.training.cost import Cost, makespan


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training to be carried out."""

    config: Config
    parent: str = ""  # id of the run to nest in; "" for a training of its own
    run_id: str = ""  # of the run that worker.prepare() has made for it
    resume: bool = True  # go on where an interrupted training of the same ended
    borrow: bool = True  # even if that one belongs to another command
    until: int | None = None  # pause after that epoch
    check: bool = False  # compare the hand-written gradients with numerical ones first
    at_once: int = 1  # trainings that share this machine


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Some batches of a training, to see that it works and how long it takes."""

    config: Config
    number: int = 0  # tells apart several of the same


WorkItem = Task | Probe
Item = TypeVar("Item", Task, Probe)


@dataclass(frozen=True)
class Ended:
    """How a work item ended."""

    reason: str = ""  # why it failed
    cost: Cost | None = None  # of a Probe


class Prepared(NamedTuple):
    """A training that waits in its run for another process."""

    run_id: str
    epochs: int  # that are done
    is_there: bool  # where the task wants it: nothing is to be done


class Launcher:
    """Where work items are carried out. Leaving it as a context ends what is still under way."""

    at_once = 1  # trainings that share a machine
    in_this_run = False  # whether a recipe of one training trains in the recipe's own run
    takes_up_jobs = False  # whether trainings that are in jobs of a cluster are waited for
    waits = ""  # what a plan says of times that nobody can estimate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, configs: Sequence[Config]) -> None:
        """Raise UserError if these trainings cannot run here."""

    def run(self, tasks: Sequence[Task]) -> dict[Task, Ended]:
        """Carry out all tasks, and tell how each ended. A task that fails ends no other."""
        raise NotImplementedError

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Ended]:
        """Carry out all probes, as many at once as tasks would be."""
        raise NotImplementedError

    def device(self, device: str) -> str:
        """`device` ("auto", "cpu" or "cuda") as "cpu" or "cuda". Raises ConfigError."""
        return resolve_device(device)

    def elapsed(self, durations: Sequence[float]) -> float:
        """Seconds that trainings of these seconds take together."""
        return makespan(durations, self.at_once)

    def why_not_probed(self, begun: bool) -> str:
        """Why a plan should not try trainings with this launcher, in words; "" if it may.

        begun: whether the same command would take over trainings that are under way.
        """
        return ""
