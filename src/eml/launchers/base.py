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
    run_id: str = ""  # the run that worker.prepare() made for this task
    resume: bool = True  # continue an interrupted training with the same digest
    borrow: bool = True  # also copy checkpoints of other commands' runs
    until: int | None = None  # pause after that epoch
    check: bool = False  # compare the hand-written gradients with numerical ones first
    at_once: int = 1  # trainings that share this machine


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Some batches of a training, to see that it works and how long it takes."""

    config: Config
    number: int = 0  # makes probes of the same Config different


WorkItem = Task | Probe
Item = TypeVar("Item", Task, Probe)


@dataclass(frozen=True)
class Ended:
    """How a work item ended."""

    reason: str = ""  # why it failed
    cost: Cost | None = None  # of a Probe


class Prepared(NamedTuple):
    """A training whose run is ready for another process."""

    run_id: str
    epochs: int  # epochs done
    is_there: bool  # whether the task has nothing left to do


class Launcher:
    """Carries out work items. Leaving the context ends the items that are under way."""

    at_once = 1  # trainings that share a machine
    in_this_run = False  # whether a recipe of one training trains in the recipe's own run
    takes_up_jobs = False  # whether it waits for trainings that jobs of a cluster already have
    waits = ""  # added to a plan's estimate, for waiting times that cannot be estimated

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, configs: Sequence[Config]) -> None:
        """Raise UserError if these trainings cannot run here."""

    def run(self, tasks: Sequence[Task]) -> dict[Task, Ended]:
        """Carry out all tasks and return how each ended. A task that fails does not stop others."""
        raise NotImplementedError

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Ended]:
        """Carry out all probes, as many at once as tasks."""
        raise NotImplementedError

    def device(self, device: str) -> str:
        """Resolve "auto", "cpu" or "cuda" to "cpu" or "cuda". Raises ConfigError."""
        return resolve_device(device)

    def elapsed(self, durations: Sequence[float]) -> float:
        """Wall-clock seconds of trainings that take `durations` seconds each."""
        return makespan(durations, self.at_once)

    def why_not_probed(self, begun: bool) -> str:
        """Why a plan must not run probes with this launcher, in words; "" if it may.

        begun: whether trainings of the same command are under way.
        """
        return ""
