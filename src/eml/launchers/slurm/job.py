"""What one job of Slurm does."""

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
    """What one job does: one item after the other. Requeued, the job goes on with the rest."""

    items: list[WorkItem]
    seconds: float  # that the job may take
    ended: list[Ended] = field(default_factory=list)

    def __call__(self) -> list[Ended]:
        started = perf_counter()
        progress: int | None = None  # epochs; None before a training has begun
        requeue = getsignal(REQUEUE)  # submitit's: calls checkpoint(), and ends
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
                open_store()  # from here, too
            self._say_which_job()
            while self.items:
                self._note(perform(self.items[0], Log))
        except Deferred:
            if progress == 0 and perf_counter() - started > self.seconds / 2:
                self._note(Ended("a job is too short for an epoch: give more slurm_time"))
            if self.items:
                requeue(REQUEUE, None)
        except Stopped as stopped:
            sys.exit(stopped.exit_code)
        except StoreAwayError as error:  # the rest may find the store there in another job
            print(error, flush=True)
            sys.exit(error.exit_code)
        except UserError as error:
            return [*self.ended, *[Ended(error.shown())] * len(self.items)]
        return self.ended

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit is to do when the job is on again."""
        return submitit.helpers.DelayedSubmission(self)

    def _say_which_job(self) -> None:
        """The process that has submitted it may have been killed before it could."""
        job = submitit.JobEnvironment()
        for item in self.items:
            if isinstance(item, Task):
                end.note_job(item.run_id, job.job_id, str(job.paths.stdout))

    def _note(self, ended: Ended) -> None:
        """The first of the items is over."""
        item = self.items.pop(0)
        self.ended.append(ended)
        if isinstance(item, Probe) and ended.cost:
            print(f"tried, and works: {item.config.run_name}", flush=True)
        if ended.reason:
            print(f"failed: {ended.reason}", flush=True)
            if isinstance(item, Task):  # whose run may not have begun
                with suppress(StoreError):
                    end.fail(item.run_id, ended.reason)
