"""What a launcher is given to do, what it gives back, and how it is done in any process."""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from eml.config import Config
from eml.errors import UserError
from eml.estimate import Cost, probe
from eml.progress import Display
from eml.tracked import Task, train
from eml.train import Training


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


class Inline:
    """The launcher that does one job after the other in this process."""

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_) -> None:
        pass

    def run(self, jobs: Sequence[Job]) -> dict[Job, Ended]:
        ended = {}
        for number, job in enumerate(jobs, start=1):
            print(f"{number} of {len(jobs)}: {job.config.run_name}", flush=True)
            ended[job] = perform(job)
            if ended[job].reason:
                print(f"failed: {ended[job].reason}", flush=True)
        return ended


def perform(job: Job, display: Callable[[Training, str], Display] = Display) -> Ended:
    """Do a job in this process; display as for tracked.train."""
    try:
        if isinstance(job, Probe):
            return Ended(cost=probe(job.config))
        train(job, display)
        return Ended()
    except UserError as error:
        return Ended(str(error))
    except Exception as error:
        traceback.print_exc()
        return Ended(f"{type(error).__name__}: {error}")


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Changed environment variables, for processes that are started within."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
