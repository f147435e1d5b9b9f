"""Submits the trainings of one parent run, and waits until all have ended.

The run of each training is made before its job is submitted, and is tagged with the job's number.
So the store holds the state of every training, and another process can take over from this one.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from eml.errors import UserError, printable
from eml.launchers.base import Result, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.job import NOT_REQUEUED, submit
from eml.launchers.slurm.settings import JobOptions
from eml.launchers.worker import prepare
from eml.machine import signals_held
from eml.tracking import find, store, tags
from eml.tracking.calls import StoreError
from eml.tracking.digests import training_digest
from eml.tracking.readers import FINISHED, StoredRun
from eml.tracking.runs import close_run, stop_run, tag_run

# The beginnings of job states that are not the training's fault.
ENDED_EARLY = "COMPLETED"  # without the end of its training: the cluster has not requeued it
NO_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", ENDED_EARLY)


class CancelledError(UserError):
    """`eml cancel` has cancelled the parent run."""

    exit_code = 1


@dataclass
class Row:
    """A training, as the waiting process knows it."""

    task: Task
    run_id: str = ""
    job: str = ""  # the job that has the training; "" if none has
    state: str = "waiting"
    result: Result | None = None

    def end(self, reason: str = "") -> None:
        self.result, self.state = Result(reason), "failed" if reason else "done"
        if reason:
            print(f"{self.task.config.run_name}: {reason}", flush=True)

    def update(self, run: StoredRun | None, live: str | None) -> None:
        """Record the state of the training; live: the state of its job, None if it has ended."""
        if run is None:
            self.end("its run was deleted")
        elif run.status == FINISHED:
            self.end()
        elif run.status == "FAILED":
            self.end(f"{run.reason}; log {run.tags.get(tags.JOB_LOG)}")
        elif live:
            self.state = live
        else:
            self.settle(run)

    def settle(self, run: StoredRun) -> None:
        """Decide whether a training failed whose job has ended; else it is submitted again.

        The run of a cancelled job ends KILLED, that of a failed one FAILED.
        """
        outcome = cluster.outcome(self.job)
        reason = f"job {self.job} has ended: {outcome}"
        if outcome.startswith("CANCELLED"):
            stop_run(self.run_id, "cancelled")
        # A cluster that needs the node may end a job with SIGTERM only: the run is then KILLED.
        elif run.status == "KILLED" or outcome.startswith(NO_FAULT):
            if outcome == ENDED_EARLY:
                why = last_line(run, NOT_REQUEUED)
                text = f"job {self.job} has ended, and its training is submitted again: {why}"
                print(text, flush=True)
            self.job, self.state = "", "waiting"
            return
        else:
            close_run(self.run_id, "FAILED", "error", reason)
        self.end(f"failed: {reason}; log {run.tags.get(tags.JOB_LOG)}")


def last_line(run: StoredRun, start: str) -> str:
    """The last line of the log of a run's job that begins with these words."""
    log = run.tags.get(tags.JOB_LOG, "")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path(log).read_text(errors="replace").splitlines()
        return printable(next(line for line in reversed(lines) if line.startswith(start)))
    return f"log {log}"


class Submitted:
    """Submits the trainings of one parent run, and waits for them."""

    def __init__(self, tasks: Sequence[Task], settings: JobOptions):
        self.settings, self.parent = settings, tasks[0].parent
        self.rows = [Row(task) for task in tasks]
        self.printed = ""

    def jobs(self) -> set[str]:
        """The jobs that have trainings without a result."""
        return {row.job for row in self.rows if row.job and not row.result}

    def wait(self) -> list[Result]:
        """Submit all trainings, resubmit those that dead jobs left, and wait for the end of all."""
        self._adopt()
        for alive in cluster.polls(self.jobs):
            # Read the store after asking Slurm, so that an ended job has written everything.
            try:
                store.open_store()
                runs = {run.run_id: run for run in find.children(self.parent).values()}
            except StoreError as error:  # the jobs continue, and so does this process
                self._print(f"{error}: waiting")
                continue
            self._refuse_if_cancelled()
            for row in self.rows:
                if row.job and not row.result:
                    row.update(runs.get(row.run_id), alive.get(row.job))
            self._submit([row for row in self.rows if not (row.job or row.result)])
            counts = Counter(row.state for row in self.rows)
            self._print(", ".join(f"{n} {state}" for state, n in sorted(counts.items())))
            if all(row.result for row in self.rows):
                break
        return [row.result for row in self.rows if row.result]

    def _refuse_if_cancelled(self) -> None:
        if tags.CANCELLED in find.get(self.parent).tags:
            raise CancelledError("cancelled by `eml cancel`")

    def _print(self, line: str) -> None:
        if line != self.printed:
            print(line, flush=True)
        self.printed = line

    def _adopt(self) -> None:
        """Find the trainings that are in jobs already, or that a job has finished just now."""
        runs = find.children(self.parent).values()
        alive = cluster.alive(run.tags.get(tags.JOB, "") for run in runs)
        runs_now = find.children(self.parent)  # a job that ended meanwhile has written everything
        for row in self.rows:
            run = runs_now.get(training_digest(row.task.config))
            if run and run.status == FINISHED:
                row.run_id = run.run_id
                row.end()
            elif run and run.tags.get(tags.JOB) in alive and run.status != "FAILED":
                row.run_id, row.job = run.run_id, run.tags[tags.JOB]

    def _submit(self, rows: list[Row]) -> None:
        """Make the runs of trainings, and submit the trainings."""
        for row in rows:
            row.run_id = prepare(replace(row.task, resume=row.task.resume or row.run_id != ""))
        if not rows:
            return
        tasks = [replace(row.task, run_id=row.run_id) for row in rows]
        self._refuse_if_cancelled()
        with signals_held():  # so that a signal cannot lose a submitted job
            jobs = submit(tasks, f"eml-{rows[0].task.config.recipe}", self.settings)
            for row, job in zip(rows, jobs, strict=True):
                row.job = job.job_id
        for row, job in zip(rows, jobs, strict=True):
            tag_run(row.run_id, {tags.JOB: row.job, tags.JOB_LOG: str(job.paths.stdout)})
        ids = " to ".join(dict.fromkeys([rows[0].job, rows[-1].job]))
        print(f"trainings in jobs {ids}: {len(rows)}; logs in {jobs[0].paths.folder}", flush=True)
