"""Submits the trainings of one parent run, and waits until all have ended.

The run of each training is made before its job is submitted, and is tagged with the job's number.
So the store holds the state of every training, and another process can take over from this one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from eml.errors import UserError, printable
from eml.launchers.base import Result, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.job import NOT_REQUEUED, Pack, submit
from eml.launchers.slurm.settings import JobOptions
from eml.launchers.worker import prepare
from eml.machine import signals_held
from eml.tracking import find, store, tags
from eml.tracking.calls import StoreError
from eml.tracking.digests import training_digest
from eml.tracking.readers import FINISHED, StoredRun
from eml.tracking.runs import close_run, is_cancelled, stop_run, tag_run
from eml.training.cost import Costs, kind_of, seconds_of

# The beginnings of job states that are not the training's fault.
ENDED_EARLY = "COMPLETED"  # of a job with trainings left: the cluster has not requeued it
NO_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", ENDED_EARLY)


class CancelledError(UserError):
    """`eml cancel` has cancelled the run of this process."""

    exit_code = 1


def refuse_if_cancelled() -> None:
    """Raise CancelledError if `eml cancel` has cancelled the run of this process."""
    if is_cancelled():
        raise CancelledError("cancelled by `eml cancel`")


@dataclass
class Row:
    """A training, as the waiting process knows it."""

    task: Task
    run_id: str = ""
    run: StoredRun | None = None  # as read last from the store
    epochs: int = 0  # done before the training is submitted
    job: str = ""  # the job that has the training; "" if none has
    state: str = "waiting"
    result: Result | None = None

    def end(self, reason: str = "") -> None:
        self.result, self.state = Result(reason), "failed" if reason else "done"
        if reason:
            print(f"{self.task.config.run_name}: {reason}", flush=True)

    def update(self, run: StoredRun | None, live: str | None) -> None:
        """Record the state of the training, given its run and its job's state."""
        self.run = run
        if run is None:
            self.end("its run was deleted")
        elif run.status == FINISHED:
            self.end()
        elif run.status == "FAILED":
            self.end(f"{run.reason}; log {run.tags.get(tags.JOB_LOG)}")
        elif live:
            is_next = live.startswith("running") and run.status != "RUNNING"
            self.state = "next in a job" if is_next else live


def last_line(run: StoredRun | None, start: str) -> str:
    """The last line of the log of a run's job that begins with these words."""
    log = run.tags.get(tags.JOB_LOG, "") if run else ""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path(log).read_text(errors="replace").splitlines()
        return printable(next(line for line in reversed(lines) if line.startswith(start)))
    return f"log {log}"


class Submitted:
    """Submits the trainings of one parent run, and waits for them."""

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: JobOptions,
        costs_of: Callable[[Iterable[Task]], Costs],
    ):
        self.settings, self.costs_of = settings, costs_of
        self.rows, self.parent = [Row(task) for task in tasks], tasks[0].parent
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
            refuse_if_cancelled()
            for row in self.rows:
                if row.job and not row.result:
                    row.update(runs.get(row.run_id), alive.get(row.job))
            for job in self.jobs() - alive.keys():
                self._settle(job)
            self._submit([row for row in self.rows if not (row.job or row.result)])
            counts = Counter(row.state for row in self.rows)
            self._print(", ".join(f"{n} {state}" for state, n in sorted(counts.items())))
            if all(row.result for row in self.rows):
                break
        return [row.result for row in self.rows if row.result]

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
            made = prepare(replace(row.task, resume=row.task.resume or row.run_id != ""))
            row.run_id, row.epochs = made.run_id, made.checkpoint.epochs
        if not rows:
            return
        groups = self._grouped(rows)
        packs = [
            Pack([replace(row.task, run_id=row.run_id) for row in group], self.settings.seconds)
            for group in groups
        ]
        refuse_if_cancelled()
        with signals_held():  # so that a signal cannot lose a submitted job
            jobs = submit(packs, f"eml-{rows[0].task.config.recipe}", self.settings)
            pairs = [(job, row) for job, group in zip(jobs, groups, strict=True) for row in group]
            for job, row in pairs:
                row.job = job.job_id
        for job, row in pairs:
            tag_run(row.run_id, {tags.JOB: row.job, tags.JOB_LOG: str(job.paths.stdout)})
        ids = " to ".join(dict.fromkeys([rows[0].job, rows[-1].job]))
        print(f"trainings in jobs {ids}: {len(rows)}; logs in {jobs[0].paths.folder}", flush=True)

    def _grouped(self, rows: list[Row]) -> list[list[Row]]:
        """The trainings of each job: together those that are expected to fit."""
        costs = self.costs_of(row.task for row in rows) if len(rows) > 1 else {}
        durations = [float("inf")] * len(rows)  # alone in a job if the probe failed
        for index, row in enumerate(rows):
            config = row.task.config
            if kind_of(config) in costs:
                left = config.epochs - row.epochs
                durations[index] = seconds_of(config, costs, left, begun=row.epochs > 0)
        return [[rows[index] for index in group] for group in self.settings.groups(durations)]

    def _settle(self, job: str) -> None:
        """Decide which trainings of a job that ended failed; the others are submitted again.

        A cancelled job ends all its runs KILLED. Otherwise the runs of the failed end FAILED.
        """
        rows = [row for row in self.rows if row.job == job and not row.result]
        runs = {row.run_id: row.run for row in rows if row.run}
        outcome = cluster.outcome(job)
        cancelled = outcome.startswith("CANCELLED")
        # A cluster that needs the node may end a job with SIGTERM only: the run is then KILLED.
        spared = any(run.status == "KILLED" for run in runs.values())
        failed = rows
        if not cancelled:
            failed = [row for row in rows if runs[row.run_id].status == "RUNNING"] or rows[:1]
            if spared or outcome.startswith(NO_FAULT):
                failed = []
        if outcome == ENDED_EARLY:
            why = last_line(rows[0].run, NOT_REQUEUED)
            print(f"job {job} has ended, and its trainings are submitted again: {why}", flush=True)
        reason = f"job {job} has ended: {outcome}"
        for row in rows:
            row.job = ""
        for row in failed:
            if cancelled:
                stop_run(row.run_id, "cancelled")
            else:
                close_run(row.run_id, "FAILED", "error", reason)
            row.end(f"failed: {reason}; log {runs[row.run_id].tags.get(tags.JOB_LOG)}")
