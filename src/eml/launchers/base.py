"""The tasks, their results, and the Launcher base class."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle, islice
from typing import NamedTuple, Self

from eml.config import Config, resolve_device
from eml.errors import UserError
from eml.launchers.options import LAUNCHERS, LaunchOptions
from eml.tracking.readers import StoredRun
from eml.tracking.tags import JOB
from eml.training.cost import Cost, Costs, kind_of, makespan, seconds_of
from eml.training.threads import CHOOSE, Asked


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training to carry out, or to try with a few batches, which shows how long it takes."""

    config: Config
    probe: bool = False  # try it, and log nothing
    parent: str = ""  # id of the parent run; "" for a training without a parent
    run_id: str = ""  # run that worker.prepare() made for this task; "" if none
    resume: bool = True  # continue an interrupted training with the same digest
    copy_from_others: bool = True  # also copy checkpoints from runs of other commands
    check: bool = False  # compare the hand-written gradients with numerical ones first
    code: str = ""  # path of the user's own code
    code_check: str = ""  # what its check has found
    threads: Asked = CHOOSE


@dataclass(frozen=True)
class Result:
    """How a task ended."""

    reason: str = ""  # why the task failed; "" if it succeeded
    cost: Cost | None = None  # of a probe that succeeded


class JobStatus(NamedTuple):
    """The status of the job that has a run."""

    lives: bool | None  # whether the job waits or runs; None if the cluster does not answer
    words: str  # such as "in job 7 (running on n1)", or how the job ended
    log: str  # the job's log file


class Launcher:
    """Carries out tasks. Leaving the context ends its processes, but not submitted jobs."""

    in_this_run = False  # whether a recipe of one training needs no parent run
    trains_here = True  # whether trainings are on this machine, so that plans can time them

    def __init__(self, options: LaunchOptions | None = None, jobs: int = 1):
        """jobs: number of trainings at once that share a machine."""
        self.options, self.at_once = options or LaunchOptions(), jobs
        self.costs: Costs = {}  # of the kinds of trainings that were probed

    @classmethod
    def status(cls, runs: Collection[StoredRun]) -> dict[str, JobStatus]:
        """The status of this launcher's jobs that have some of these unfinished runs, by run id."""
        return {}

    @classmethod
    def cancel(cls, parent: StoredRun) -> int:
        """End the jobs of a parent run and the runs of its trainings; return the number of jobs."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, configs: Sequence[Config]) -> None:
        """Raise UserError if these trainings cannot run here."""

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        """Carry out all tasks and return their results. A failed one does not stop the others."""
        raise NotImplementedError

    def measure(self, configs: Iterable[Config], threads: int, code: str) -> None:
        """Measure the costs of each kind of training, with as many probes at once as trainings.

        threads: of each, if the user asks, else 0. code: see Task. Raises UserError if one fails.
        """
        print("timing a few batches of each kind of training, without logging them", flush=True)
        kinds = {kind_of(config): config for config in configs}
        asked = Asked(threads, self.at_once)
        probes = [
            Task(config=config, threads=asked, probe=True, code=code) for config in kinds.values()
        ]
        # Add probes to keep all workers busy: a probe alone on the machine would be too fast.
        probes += islice(cycle(tuple(probes)), -len(probes) % self.at_once)
        for probe, result in zip(probes, self.run(probes), strict=True):
            if result.cost is None:
                raise UserError(f"{probe.config.run_name}: {result.reason}")
            self.costs[kind_of(probe.config)] = result.cost

    def seconds(self, configs: Iterable[Config]) -> float:
        """Expected wall-clock seconds of whole trainings whose kinds were probed."""
        return self.elapsed([seconds_of(config, self.costs, config.epochs) for config in configs])

    def device(self, device: str) -> str:
        """Resolve "auto", "cpu" or "cuda" to "cpu" or "cuda". Raises ConfigError."""
        return resolve_device(device)

    def elapsed(self, durations: Sequence[float]) -> float:
        """Wall-clock seconds until trainings that take `durations` seconds have all ended."""
        return makespan(durations, self.at_once)


def launcher_class(name: str) -> type[Launcher]:
    """The class of a launcher in the table, imported now: its libraries take time to load."""
    launcher: type[Launcher] = getattr(
        import_module(LAUNCHERS[name].module), LAUNCHERS[name].class_name
    )
    return launcher


def job_status(runs: Collection[StoredRun]) -> dict[str, JobStatus]:
    """The status of the jobs that have some of these runs, by run id."""
    in_jobs = [run for run in runs if JOB in run.tags]
    jobs: dict[str, JobStatus] = {}
    for name in LAUNCHERS if in_jobs else ():  # without a job no launcher is imported
        jobs |= launcher_class(name).status(in_jobs)
    return jobs
