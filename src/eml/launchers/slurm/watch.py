"""Watches the submitted trainings of one parent run until all have ended.

The run of each training is made before its job is submitted, and is tagged with the job's number.
So the store holds the state of every training, and another process can take over from this one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from eml.errors import UserError
from eml.launchers.base import Result, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cluster import LiveJob
from eml.launchers.slurm.job import Pack, submit
from eml.launchers.slurm.settings import JobOptions
from eml.launchers.worker import Prepared, prepare
from eml.machine import signals_held
from eml.tracking import end, find, tags
from eml.tracking.calls import StoreError
from eml.tracking.digests import training_digest
from eml.tracking.store import open_store
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import JOB, JOB_LOG, PAUSED_AFTER
from eml.training.cost import Costs, kind_of, pack, seconds_of

# The beginnings of job states that are not the training's fault.
NO_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")


class CancelledError(UserError):
    """`eml cancel` has cancelled the run of this process."""

    exit_code = 1


def refuse_if_cancelled() -> None:
    """Raise CancelledError if `eml cancel` has cancelled the run of this process."""
    if end.is_cancelled():
        raise CancelledError("cancelled by `eml cancel`")


class Submitted:
    """Submits the trainings of one parent run, and waits for them."""

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: JobOptions,
        costs_of: Callable[[Iterable[Task]], Costs],
    ):
        self.tasks, self.settings, self.costs_of = tasks, settings, costs_of
        self.results: dict[Task, Result] = {}
        self.printed: dict[Task, str] = {}
        self.run_ids: dict[Task, str] = {}
        self.packs: dict[str, list[Task]] = {}  # tasks of each job, in the order of training

    def wait(self) -> dict[Task, Result]:
        """Submit all trainings, resubmit those that dead jobs left, and wait for the end of all."""
        prepared = self._adopt_running()
        while len(self.results) < len(self.tasks):
            if prepared:
                self._submit(prepared)
            prepared = self._watch()
        return self.results

    def _adopt_running(self) -> dict[Task, Prepared]:
        """Find the trainings that are already in jobs, and make the runs of the others."""
        runs = find.children(self.tasks[0].parent)
        alive = cluster.alive(run.tags.get(JOB, "") for run in runs.values())
        prepared = {}
        for task in self.tasks:
            run = runs.get(training_digest(task.config))
            job = run.tags.get(JOB, "") if run else ""
            if run and job in alive and run.status != "FAILED":
                self.packs.setdefault(job, []).append(task)
                self.run_ids[task] = run.run_id
                continue
            made = prepare(task)
            self.run_ids[task] = made.run_id
            if made.already_done:
                self.results[task] = Result()
            else:
                prepared[task] = made
        return prepared

    def _submit(self, prepared: dict[Task, Prepared]) -> None:
        tasks, durations = list(prepared), [0.0]
        if len(tasks) > 1:
            costs = self.costs_of(tasks)
            durations = [_seconds_left(task, prepared[task].epochs, costs) for task in tasks]
        indices = pack(durations, self.settings.pack_seconds)
        groups = [[tasks[index] for index in group] for group in indices]
        packs = [
            Pack(
                [replace(task, run_id=self.run_ids[task]) for task in group],
                seconds=60 * self.settings.slurm_time,
            )
            for group in groups
        ]
        refuse_if_cancelled()
        with signals_held():  # so that a signal cannot lose a submitted job
            jobs = submit(packs, f"eml-{tasks[0].config.recipe}", self.settings)
            self.packs |= {job.job_id: group for job, group in zip(jobs, groups, strict=True)}
        for job in jobs:
            for task in self.packs[job.job_id]:
                end.note_job(self.run_ids[task], job.job_id, str(job.paths.stdout))
        ids = f"job {jobs[0].job_id}"
        if len(jobs) > 1:
            ids = f"jobs {jobs[0].job_id} to {jobs[-1].job_id}"
        print(f"{len(tasks)} trainings in {ids}; logs in {jobs[0].paths.folder}", flush=True)

    def _watch(self) -> dict[Task, Prepared]:
        """Wait until all trainings have ended or some must be submitted again; return these."""
        again: dict[Task, Prepared] = {}
        away = False  # whether the store does not answer
        for alive in cluster.polls(self.packs):
            # Read the store after asking Slurm, so that an ended job has written everything.
            try:
                open_store()
                children = find.children(self.tasks[0].parent)
            except StoreError as error:  # the jobs continue, and so does this process
                if not away:
                    print(f"{error}: waiting", flush=True)
                away = True
                continue
            away = False
            refuse_if_cancelled()
            runs = {run.run_id: run for run in children.values()}
            for job, group in list(self.packs.items()):
                for task in group:
                    self._update(task, runs.get(self.run_ids[task]), job, alive.get(job))
                if job not in alive:
                    del self.packs[job]
                    left = [task for task in group if task not in self.results]
                    for task in self._settle_ended_job(job, left, runs):
                        again[task] = prepare(replace(task, resume=True))
                        self.run_ids[task] = again[task].run_id
            if again or len(self.results) == len(self.tasks):
                break
        return again

    def _update(self, task: Task, run: StoredRun | None, job: str, live: LiveJob | None) -> None:
        """Record and print the state of a training, given its run and its job."""
        if task in self.results:
            return
        if run is None:
            self._end(task, "its run was deleted")
            return
        paused = tags.epoch_in(run.tags, PAUSED_AFTER)
        if run.status == "FINISHED" or (task.until is not None and paused >= task.until):
            self._end(task, "")
        elif run.status == "FAILED":
            self._end(task, f"{run.reason}; log {run.tags.get(JOB_LOG)}")
        elif live and live.state == run.status == "RUNNING":
            self._print(task, f"runs in job {job}", f" on {live.why}")
        elif live and "held" in live.why.lower():  # held jobs do not start by themselves
            self._print(task, f"waits in job {job} {live.why}")
        elif live:
            self._print(task, f"waits in job {job}", live.why and f" ({live})")

    def _settle_ended_job(
        self, job: str, left: list[Task], runs: Mapping[str, StoredRun]
    ) -> list[Task]:
        """Handle a job that ended, given its trainings that are `left` without a result.

        If the job was cancelled, marks the runs of all these trainings KILLED; otherwise marks the
        runs of those that the job failed on FAILED. Returns the trainings to submit again.
        """
        if not left:
            return []
        run_of = {task: runs[self.run_ids[task]] for task in left}
        outcome = cluster.outcome(job)
        reason = f"job {job} has ended: {outcome}"
        log = f"; log {run_of[left[0]].tags.get(JOB_LOG)}"
        if outcome.startswith("CANCELLED"):
            for task in left:
                end.cancel(self.run_ids[task])
                self._end(task, f"failed: {reason}{log}")
            return []
        # A cluster that needs the node may end a job with SIGTERM only: the run is then KILLED.
        # A paused training: another process submitted the job, up to an earlier epoch.
        if outcome.startswith(NO_FAULT) or any(
            run.status == "KILLED" or PAUSED_AFTER in run.tags for run in run_of.values()
        ):
            return left
        at_work = [task for task, run in run_of.items() if run.status == "RUNNING"]
        # A completed job will not carry out its remaining trainings.
        failed = left if outcome == "COMPLETED" else at_work or left[:1]
        for task in failed:
            end.fail(self.run_ids[task], reason)
            self._end(task, f"failed: {reason}{log}")
        return [task for task in left if task not in failed]

    def _end(self, task: Task, reason: str) -> None:
        self.results[task] = Result(reason)
        self._print(task, reason or "done")

    def _print(self, task: Task, words: str, why: str = "") -> None:
        """Print `words` and `why` if `words` changed."""
        if self.printed.get(task) != words:
            self.printed[task] = words
            number = f"[{self.tasks.index(task) + 1}/{len(self.tasks)}]"
            print(f"{number} {task.config.run_name}: {words}{why}", flush=True)


def _seconds_left(task: Task, done: int, costs: Costs) -> float:
    if kind_of(task.config) not in costs:
        return float("inf")  # its probe failed, so give the training its own job
    epochs = (task.until or task.config.epochs) - done
    return seconds_of(task.config, costs, epochs, begun=done > 0)
