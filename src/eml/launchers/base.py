"""The work items, their results, and the Launcher base class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

from eml.config import Config, resolve_device
from eml.threads import CHOOSE, Asked
from eml.training.cost import Cost, makespan


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training to carry out."""

    config: Config
    parent: str = ""  # id of the parent run; "" for a training without a parent
    run_id: str = ""  # run that worker.prepare() made for this task; "" if none
    resume: bool = True  # continue an interrupted training with the same digest
    borrow: bool = True  # also copy checkpoints from runs of other commands
    until: int | None = None  # epoch after which to pause; None trains to the end
    check: bool = False  # compare the hand-written gradients with numerical ones first
    output: str = ""  # folder for a copy of the figures, if the training has no parent
    threads: Asked = CHOOSE
    system_metrics: bool = False  # log MLflow's system metrics


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A few batches of a training, which show whether the training works and how long it takes."""

    config: Config
    number: int = 0  # distinguishes probes of the same Config
    threads: Asked = CHOOSE


WorkItem = Task | Probe
Item = TypeVar("Item", Task, Probe)


@dataclass(frozen=True)
class Ended:
    """How a work item ended."""

    reason: str = ""  # why the item failed; "" if it succeeded
    cost: Cost | None = None  # of a Probe that succeeded


class Prepared(NamedTuple):
    """A training whose run exists already, so that another process can carry it out."""

    run_id: str
    epochs: int  # number of epochs done
    is_there: bool  # whether the task has nothing left to do


class Launcher:
    """Carries out work items. Leaving the context ends its processes, but not submitted jobs."""

    at_once = 1  # number of trainings that share a machine
    in_this_run = False  # whether a recipe of one training needs no parent run
    takes_up_jobs = False  # whether run() waits for trainings that are already in jobs
    waits = ""  # added to a plan's estimate, to name waiting times that cannot be estimated

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, configs: Sequence[Config]) -> None:
        """Raise UserError if these trainings cannot run here."""

    def run(self, tasks: Sequence[Task]) -> dict[Task, Ended]:
        """Carry out all tasks and return how each ended. A failed task does not stop the others."""
        raise NotImplementedError

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Ended]:
        """Carry out all probes, as many at once as tasks, and return how each ended."""
        raise NotImplementedError

    def device(self, device: str) -> str:
        """Resolve "auto", "cpu" or "cuda" to "cpu" or "cuda". Raises ConfigError."""
        return resolve_device(device)

    def elapsed(self, durations: Sequence[float]) -> float:
        """Wall-clock seconds until trainings that take `durations` seconds have all ended."""
        return makespan(durations, self.at_once)

    def why_not_probed(self, begun: bool) -> str:
        """The reason why a plan must not carry out probes with this launcher; "" if there is none.

        begun: whether trainings of the same command are under way.
        """
        return ""
