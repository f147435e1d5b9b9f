"""Submits the trainings of one parent run, and waits until all have ended.

The run of each training is made before its job is submitted, and is tagged with the job's number.
So the store holds the state of every training, and another process can take over from this one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from eml.errors import UserError
from eml.launchers.base import Result, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.job import Pack, submit
from eml.launchers.slurm.settings import JobOptions
from eml.launchers.worker import is_at_pause, prepare
from eml.machine import signals_held
from eml.tracking import find, tags
from eml.tracking.calls import StoreError
from eml.tracking.digests import training_digest
from eml.tracking.runs import cancel_run, close_run, is_cancelled, tag_run
from eml.tracking.store import open_store
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import JOB, JOB_LOG, PAUSED_AFTER
from eml.training.cost import Costs, kind_of, seconds_of

# The beginnings of job states that are not the training's fault.
NO_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")


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
    number: str  # such as "[1/5]"
    run_id: str = ""
    epochs: int = 0  # done before the training is submitted
    job: str = ""  # the job that has the training; "" if none has
    result: Result | None = None
    printed: str = ""  # the state printed last

    def end(self, reason: str = "") -> None:
        self.result = Result(reason)
        self.print(reason or "done", "ended")

    def print(self, words: str, state: str) -> None:
        """Print `words` if `state` is another than the last time."""
        if self.printed != state:
            self.printed = state
            print(f"{self.number} {self.task.config.run_name}: {words}", flush=True)

    def update(self, run: StoredRun | None, live: str | None) -> None:
        """Record and print the state of the training, given its run and its job."""
        if run is None:
            self.end("its run was deleted")
        elif run.status == "FINISHED" or (
            self.task.until is not None and tags.epoch_in(run.tags, PAUSED_AFTER) >= self.task.until
        ):
            self.end()
        elif run.status == "FAILED":
            self.end(f"{run.reason}; log {run.tags.get(JOB_LOG)}")
        elif live:
            working = live.startswith("running") and run.status == "RUNNING"
            # Held jobs do not start by themselves, so each reason is printed.
            key = live if "held" in live.lower() else str(working)
            self.print(f"{'runs' if working else 'waits'} in job {self.job} ({live})", key)


class Submitted:
    """Submits the trainings of one parent run, and waits for them."""

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: JobOptions,
        costs_of: Callable[[Iterable[Task]], Costs],
    ):
        self.settings, self.costs_of = settings, costs_of
        self.rows = [Row(task, f"[{n}/{len(tasks)}]") for n, task in enumerate(tasks, start=1)]

        self.parent = tasks[0].parent

    def jobs(self) -> set[str]:
        """The jobs that have trainings without a result."""
        return {row.job for row in self.rows if row.job and not row.result}

    def wait(self) -> list[Result]:
        """Submit all trainings, resubmit those that dead jobs left, and wait for the end of all."""
        self._adopt_running()
        away = ""  # why the store does not answer
        for alive in cluster.polls(self.jobs):
            # Read the store after asking Slurm, so that an ended job has written everything.
            try:
                open_store()
                runs = {run.run_id: run for run in find.children(self.parent).values()}
            except StoreError as error:  # the jobs continue, and so does this process
                if not away:
                    print(f"{error}: waiting", flush=True)
                away = str(error)
                continue
            away = ""
            refuse_if_cancelled()
            for row in self.rows:
                if row.job and not row.result:
                    row.update(runs.get(row.run_id), alive.get(row.job))
            for job in self.jobs() - alive.keys():
                self._settle(job, runs)
            self._submit([row for row in self.rows if not (row.job or row.result)])
            if all(row.result for row in self.rows):
                break
        return [row.result for row in self.rows if row.result]

    def _adopt_running(self) -> None:
        """Find the trainings that are already in jobs."""
        runs = find.children(self.parent)
        alive = cluster.alive(run.tags.get(JOB, "") for run in runs.values())
        for row in self.rows:
            run = runs.get(training_digest(row.task.config))
            if run and run.tags.get(JOB) in alive and run.status != "FAILED":
                row.run_id, row.job = run.run_id, run.tags[JOB]

    def _submit(self, rows: list[Row]) -> None:
        """Make the runs of trainings, and submit the trainings."""
        for row in rows:
            made = prepare(replace(row.task, resume=row.task.resume or row.run_id != ""))
            row.run_id, row.epochs = made.run_id, made.checkpoint.epochs
            if is_at_pause(row.task, made.checkpoint.records):
                row.end()
        rows = [row for row in rows if not row.result]
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
            for job, group in zip(jobs, groups, strict=True):
                for row in group:
                    row.job = job.job_id
        for job, group in zip(jobs, groups, strict=True):
            for row in group:
                tag_run(row.run_id, {JOB: job.job_id, JOB_LOG: str(job.paths.stdout)})
        ids = f"job {jobs[0].job_id}"
        if len(jobs) > 1:
            ids = f"jobs {jobs[0].job_id} to {jobs[-1].job_id}"
        print(f"{len(rows)} trainings in {ids}; logs in {jobs[0].paths.folder}", flush=True)

    def _grouped(self, rows: list[Row]) -> list[list[Row]]:
        """The trainings of each job: together those that are expected to fit."""
        if len(rows) == 1:
            return [rows]
        costs = self.costs_of(row.task for row in rows)
        durations = []
        for row in rows:
            config, seconds = row.task.config, float("inf")  # alone in a job if its probe failed
            if kind_of(config) in costs:
                left = (row.task.until or config.epochs) - row.epochs
                seconds = seconds_of(config, costs, left, begun=row.epochs > 0)
            durations.append(seconds)
        return [[rows[index] for index in group] for group in self.settings.groups(durations)]

    def _settle(self, job: str, runs: Mapping[str, StoredRun]) -> None:
        """Decide which trainings of a job that ended failed; the others are submitted again.

        A cancelled job ends all its runs KILLED. Otherwise the runs of the failed end FAILED.
        """
        left = {row.run_id: row for row in self.rows if row.job == job and not row.result}
        states = {run_id: runs[run_id].status for run_id in left}
        outcome = cluster.outcome(job)
        cancelled = outcome.startswith("CANCELLED")
        # A cluster that needs the node may end a job with SIGTERM only: the run is then KILLED.
        # A paused training: another process submitted the job, up to an earlier epoch.
        unfinished = "KILLED" in states.values() or any(
            PAUSED_AFTER in runs[run_id].tags for run_id in left
        )
        if cancelled:
            failed = list(left)
        elif outcome.startswith(NO_FAULT) or unfinished:
            failed = []
        else:
            at_work = [run_id for run_id, state in states.items() if state == "RUNNING"]
            failed = at_work or list(left)[:1]
        for run_id, row in left.items():
            row.job = ""
            if run_id in failed:
                reason = f"job {job} has ended: {outcome}"
                if cancelled:
                    cancel_run(run_id)
                else:
                    close_run(run_id, "FAILED", "error", reason)
                row.end(f"failed: {reason}; log {runs[run_id].tags.get(JOB_LOG)}")
