"""The training of a Slurm job: its submission, and how the job carries it out."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from signal import getsignal
from time import perf_counter

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from eml.errors import UserError
from eml.launchers.base import Task
from eml.launchers.slurm.cluster import ClusterError
from eml.launchers.slurm.settings import REQUEUES, WARNING_SECONDS, JobOptions
from eml.launchers.worker import perform
from eml.machine import REQUEUE, THREAD_VARIABLES, Deferred, Stopped, environment, raise_on_signals
from eml.tracking import runs, tags
from eml.tracking.calls import StoreAwayError, StoreError, for_other_processes
from eml.training.checkpoints import private_folder
from eml.training.loop import EpochRecord, TrainingLoop
from eml.training.progress import ShowEpoch, display

# Printed by a job, with the reason; the waiting process then submits the rest again.
NOT_REQUEUED = "the cluster does not requeue this job"


@dataclass
class Job:
    """Carries out a training in a job. A requeued job goes on with it."""

    task: Task
    seconds: float  # time limit of the job

    def __call__(self) -> None:
        started = perf_counter()
        epochs: list[int] = []  # done in this job; empty before the training has begun
        requeue = getsignal(REQUEUE)  # submitit's handler: calls checkpoint() and ends the process
        assert callable(requeue)
        raise_on_signals(in_job=True)

        @contextmanager
        def counting(training: TrainingLoop, where: str) -> Iterator[ShowEpoch]:
            def show(record: EpochRecord) -> None:
                epochs[-1] += 1
                show_epoch(record)

            epochs.append(0)
            with display(training, where) as show_epoch:
                yield show

        try:
            self._tag_run()
            reason = perform(self.task, counting).reason
        except Deferred:
            if epochs != [0] or perf_counter() - started < self.seconds / 2:
                try:
                    requeue(REQUEUE, None)
                except (OSError, subprocess.SubprocessError) as error:
                    print(f"{NOT_REQUEUED}: {error}", flush=True)
                return
            reason = "a job is too short for one epoch: increase slurm_time"
        except Stopped as stopped:
            sys.exit(stopped.exit_code)
        except StoreAwayError as error:  # another job may reach the store
            print(error, flush=True)
            sys.exit(error.exit_code)
        except UserError as error:
            reason = error.shown()
        if reason:
            print(f"failed: {reason}", flush=True)
            with suppress(StoreError):  # mark the run too: it may not have begun
                runs.close_run(self.task.run_id, "FAILED", "error", reason)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return the work of the requeued job. submitit calls this method."""
        return submitit.helpers.DelayedSubmission(self)

    def _tag_run(self) -> None:
        """Tag the run with this job: the process that submitted it may be slower, or dead."""
        job = submitit.JobEnvironment()
        found = {tags.JOB: job.job_id, tags.JOB_LOG: str(job.paths.stdout)}
        runs.tag_run(self.task.run_id, found)


def submit(tasks: Sequence[Task], name: str, settings: JobOptions) -> list[submitit.Job[None]]:
    """Submit an array with one job for each task. Raises ClusterError if sbatch fails."""
    # The folder is private, because its files are pickles that the jobs execute.
    folder = private_folder("slurm", f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:8]}")
    setup = settings.slurm_setup.splitlines()
    executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
    executor.update_parameters(
        job_name=name,
        time=settings.seconds // 60,
        array_parallelism=settings.slurm_array_parallelism,
        signal_delay_s=min(WARNING_SECONDS, settings.seconds // 4),
        setup=["set -e", *setup, "set +e"] if setup else [],  # a command that fails ends the job
        stderr_to_stdout=True,
        srun_args=[f"--cpus-per-task={settings.slurm_cpus}", "--open-mode=append"],
        additional_parameters=settings.flags | {"export": "ALL"},
    )
    variables = dict.fromkeys(THREAD_VARIABLES, str(settings.slurm_cpus)) | for_other_processes()
    # Jobs run this code, even if another eml is installed.
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # clean_env: this process may itself be in a job, whose variables must not be inherited.
    with submitit.helpers.clean_env(), environment(variables):
        try:
            with executor.batch():
                return [executor.submit(Job(task, settings.seconds)) for task in tasks]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise ClusterError(f"sbatch: {' '.join(str(error).split())}") from error
