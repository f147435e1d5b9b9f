"""What one job of Slurm does."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from signal import getsignal
from time import perf_counter

import submitit

from eml.errors import UserError
from eml.interrupts import REQUEUE, Deferred, Stopped, raise_on_signals
from eml.launchers.base import Ended, Job, Probe, Task
from eml.launchers.worker import perform
from eml.tracking import end
from eml.tracking.calls import StoreAwayError, StoreError
from eml.tracking.store import open_store
from eml.training.loop import EpochRecord
from eml.training.progress import Display


@dataclass
class Pack:
    """What one job does: one thing after the other. Requeued, it goes on with the rest."""

    jobs: list[Job]
    seconds: float  # that the job may take
    ended: list[Ended] = field(default_factory=list)

    def __call__(self) -> list[Ended]:
        started, progress = perf_counter(), None  # epochs; None before a training has begun
        requeue: Callable = getsignal(REQUEUE)  # submitit's: calls checkpoint(), and ends
        raise_on_signals(in_job=True)

        class Log(Display):
            def __enter__(self) -> Display:
                nonlocal progress
                progress = progress or 0
                return super().__enter__()

            def show(self, record: EpochRecord) -> None:
                nonlocal progress
                progress += 1
                super().show(record)

        try:
            if isinstance(self.jobs[0], Probe):
                open_store()  # from here, too
            self._say_which_job()
            while self.jobs:
                self._note(perform(self.jobs[0], Log))
        except Deferred:
            if progress == 0 and perf_counter() - started > self.seconds / 2:
                self._note(Ended("a job is too short for an epoch: give more slurm_time"))
            if self.jobs:
                requeue(REQUEUE, None)
        except Stopped as stopped:
            sys.exit(stopped.exit_code)
        except StoreAwayError as error:  # the rest may find the store there in another job
            print(error, flush=True)
            sys.exit(error.exit_code)
        except UserError as error:
            return [*self.ended, *[Ended(error.shown())] * len(self.jobs)]
        return self.ended

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit is to do when the job is on again."""
        return submitit.helpers.DelayedSubmission(self)

    def _say_which_job(self) -> None:
        """The process that has submitted it may have been killed before it could."""
        job = submitit.JobEnvironment()
        for one in self.jobs:
            if isinstance(one, Task):
                end.note_job(one.run_id, job.job_id, str(job.paths.stdout))

    def _note(self, ended: Ended) -> None:
        """The first of the jobs is over."""
        job = self.jobs.pop(0)
        self.ended.append(ended)
        if isinstance(job, Probe) and ended.cost:
            print(f"tried, and works: {job.config.run_name}", flush=True)
        if ended.reason:
            print(f"failed: {ended.reason}", flush=True)
            if isinstance(job, Task):  # whose run may not have begun
                with suppress(StoreError):
                    end.fail(job.run_id, ended.reason)
