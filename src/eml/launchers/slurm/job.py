"""The work items of one Slurm job, and how the job carries them out."""

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from signal import getsignal
from time import perf_counter

import submitit

from eml.errors import UserError
from eml.interrupts import REQUEUE, Deferred, Stopped, raise_on_signals
from eml.launchers.base import Ended, Probe, Task, WorkItem
from eml.launchers.worker import perform
from eml.tracking import end
from eml.tracking.calls import StoreAwayError, StoreError
from eml.tracking.store import open_store
from eml.training.loop import EpochRecord
from eml.training.progress import Display


@dataclass
class Pack:
    """Carries out one item after the other in a job. A requeued job does the remaining items."""

    items: list[WorkItem]
    seconds: float  # time limit of the job
    ended: list[Ended] = field(default_factory=list)

    def __call__(self) -> list[Ended]:
        started = perf_counter()
        progress: int | None = None  # epochs done in this job; None before a training has begun
        requeue = getsignal(REQUEUE)  # submitit's handler: calls checkpoint() and ends the process
        assert callable(requeue)
        raise_on_signals(in_job=True)

        class Log(Display):
            def __enter__(self) -> Display:
                nonlocal progress
                progress = progress or 0
                return super().__enter__()

            def show(self, record: EpochRecord) -> None:
                nonlocal progress
                progress = (progress or 0) + 1
                super().show(record)

        try:
            if isinstance(self.items[0], Probe):
                open_store()  # check that the node can use the store
            self._say_which_job()
            while self.items:
                self._note(perform(self.items[0], Log))
        except Deferred:
            if progress == 0 and perf_counter() - started > self.seconds / 2:
                self._note(Ended("a job is too short for one epoch: increase slurm_time"))
            if self.items:
                requeue(REQUEUE, None)
        except Stopped as stopped:
            sys.exit(stopped.exit_code)
        except StoreAwayError as error:  # another job may reach the store
            print(error, flush=True)
            sys.exit(error.exit_code)
        except UserError as error:
            return [*self.ended, *[Ended(error.shown())] * len(self.items)]
        return self.ended

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return the work of the requeued job. submitit calls this method."""
        return submitit.helpers.DelayedSubmission(self)

    def _say_which_job(self) -> None:
        """Tag the runs with this job, in case the submitting process died before it did."""
        job = submitit.JobEnvironment()
        for item in self.items:
            if isinstance(item, Task):
                end.note_job(item.run_id, job.job_id, str(job.paths.stdout))

    def _note(self, ended: Ended) -> None:
        """Record how the first item ended, and remove it."""
        item = self.items.pop(0)
        self.ended.append(ended)
        if isinstance(item, Probe) and ended.cost:
            print(f"probe succeeded: {item.config.run_name}", flush=True)
        if ended.reason:
            print(f"failed: {ended.reason}", flush=True)
            if isinstance(item, Task):  # mark the run too: it may not have begun
                with suppress(StoreError):
                    end.fail(item.run_id, ended.reason)
