"""What a launcher is given to do, what it gives back, and how it is done in any process."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from eml.calls import StoreAwayError
from eml.config import Config
from eml.errors import UserError
from eml.estimate import Cost, probe
from eml.progress import Display
from eml.text import printable, redacted
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
    """Do a job in this process; display as for tracked.train.

    Raises StoreAwayError, after which the next job would wait for the store in vain, too.
    """
    try:
        if isinstance(job, Probe):
            return Ended(cost=probe(job.config))
        train(job, display)
        return Ended()
    except StoreAwayError:
        raise
    except UserError as error:
        return Ended(error.shown())
    except Exception as error:
        print(redacted(traceback.format_exc()), end="", file=sys.stderr, flush=True)
        return Ended(printable(f"{type(error).__name__}: {error}"))
