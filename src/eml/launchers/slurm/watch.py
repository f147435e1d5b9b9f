"""Watches the submitted trainings of one parent run until all have ended.

The run of each training is made before its job is submitted, and is tagged with the job's number.
So the store holds the state of every training, and another process can take over from this one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import submitit

from eml.interrupts import signals_held
from eml.launch_options import SlurmSettings
from eml.launchers.base import Ended, Prepared, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cancel import refuse_if_cancelled
from eml.launchers.slurm.cluster import Alive
from eml.launchers.slurm.job import Pack
from eml.launchers.worker import prepare
from eml.tracking import end, find, tags
from eml.tracking.calls import StoreError
from eml.tracking.digests import training_digest
from eml.tracking.store import open_store
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import PAUSED_AFTER, SLURM_JOB, SLURM_LOG
from eml.training.cost import Costs, kind_of, pack, seconds_of

NO_FAULT = (
    "PREEMPTED",
    "NODE_FAIL",
    "BOOT_FAIL",
)  # job states that are not the training's fault


class Submitter(Protocol):
    """The part of the Slurm launcher that Submitted uses."""

    settings: SlurmSettings

    def submit(self, packs: Sequence[Pack], name: str) -> list[submitit.Job]: ...

    def costs_of(self, tasks: Iterable[Task]) -> Costs: ...


class Submitted:
    """Submits the trainings of one parent run, and waits for them."""

    def __init__(self, launcher: Submitter, tasks: Sequence[Task]):
        self.launcher, self.tasks = launcher, tasks
        self.ended: dict[Task, Ended] = {}
        self.shown: dict[Task, str] = {}
        self.run_ids: dict[Task, str] = {}
        self.packs: dict[str, list[Task]] = {}  # tasks of each job, in the order of training

    def wait(self) -> dict[Task, Ended]:
        """Submit all trainings, resubmit those that dead jobs left, and wait for the end of all."""
        prepared = self._take_up()
        while len(self.ended) < len(self.tasks):
            if prepared:
                self._submit(prepared)
            prepared = self._watch()
        return self.ended

    def _take_up(self) -> dict[Task, Prepared]:
        """Find the trainings that are already in jobs, and make the runs of the others."""
        made = find.children(self.tasks[0].parent)
        found = {task: made.get(training_digest(task.config)) for task in self.tasks}
        jobs = {task: run.tags.get(SLURM_JOB, "") for task, run in found.items() if run}
        alive = cluster.alive(jobs.values())
        prepared = {}
        for task in self.tasks:
            run = found[task]
            if run and jobs[task] in alive and run.status != "FAILED":
                self.packs.setdefault(jobs[task], []).append(task)
                self.run_ids[task] = run.run_id
                continue
            one = self._prepare(task)
            if one.is_there:
                self.ended[task] = Ended()
            else:
                prepared[task] = one
        return prepared

    def _prepare(self, task: Task, again: bool = False) -> Prepared:
        one = prepare(replace(task, resume=True) if again else task)
        self.run_ids[task] = one.run_id
        return one

    def _submit(self, prepared: dict[Task, Prepared]) -> None:
        settings, tasks = self.launcher.settings, list(prepared)
        durations = [0.0]
        if len(tasks) > 1:
            costs = self.launcher.costs_of(tasks)
            durations = [_seconds_left(task, prepared[task].epochs, costs) for task in tasks]
        lots = [
            [tasks[number] for number in numbers]
            for numbers in pack(durations, settings.pack_seconds)
        ]
        packs = [
            Pack([replace(task, run_id=self.run_ids[task]) for task in lot], 60 * settings.time)
            for lot in lots
        ]
        refuse_if_cancelled()
        with signals_held():  # so that a signal cannot lose a submitted job
            jobs = self.launcher.submit(packs, f"eml-{tasks[0].config.recipe}")
            self.packs |= {job.job_id: lot for job, lot in zip(jobs, lots, strict=True)}
        for job, lot in zip(jobs, lots, strict=True):
            for task in lot:
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
            for job, lot in list(self.packs.items()):
                for task in lot:
                    self._look(task, runs.get(self.run_ids[task]), job, alive.get(job))
                if job not in alive:
                    del self.packs[job]
                    open_ones = [task for task in lot if task not in self.ended]
                    for task in self._bury(job, open_ones, runs) if open_ones else []:
                        again[task] = self._prepare(task, again=True)
            if again or len(self.ended) == len(self.tasks):
                break
        return again

    def _look(self, task: Task, run: StoredRun | None, job: str, alive: Alive | None) -> None:
        """Record and show the state of a training, given its run and its job."""
        if task in self.ended:
            return
        if run is None:
            self._end(task, "its run was deleted")
            return
        paused = tags.epoch_in(run.tags, PAUSED_AFTER)
        if run.status == "FINISHED" or (task.until is not None and paused >= task.until):
            self._end(task, "")
        elif run.status == "FAILED":
            self._end(task, f"{run.reason}; log {run.tags.get(SLURM_LOG)}")
        elif alive and alive.state == run.status == "RUNNING":
            self._show(task, f"runs in job {job}", f" on {alive.why}")
        elif alive and "held" in alive.why.lower():  # held jobs do not start by themselves
            self._show(task, f"waits in job {job} {alive.why}")
        elif alive:
            self._show(task, f"waits in job {job}", alive.why and f" ({alive})")

    def _bury(self, job: str, open_ones: list[Task], runs: Mapping[str, StoredRun]) -> list[Task]:
        """Handle a job that ended without completing its trainings.

        If the job was cancelled, marks the runs of all its trainings KILLED; otherwise marks the
        runs of those that the job failed on FAILED. Returns the trainings to submit again.
        """
        outcome = cluster.outcome(job)
        reason = f"job {job} has ended: {outcome}"
        status = {task: runs[self.run_ids[task]].status for task in open_ones}
        log = f"; log {runs[self.run_ids[open_ones[0]]].tags.get(SLURM_LOG)}"
        if outcome.startswith("CANCELLED"):
            for task in open_ones:
                end.cancel(self.run_ids[task])
                self._end(task, f"failed: {reason}{log}")
            return []
        # A cluster that needs the node may end a job with SIGTERM only: the run is then KILLED.
        if outcome.startswith(NO_FAULT) or "KILLED" in status.values():
            return open_ones
        if any(PAUSED_AFTER in runs[self.run_ids[task]].tags for task in open_ones):
            return open_ones  # another process submitted them, up to an earlier epoch
        at_work = [task for task in open_ones if status[task] == "RUNNING"]
        # A completed job will not carry out its remaining trainings.
        failed = open_ones if outcome == "COMPLETED" else at_work or open_ones[:1]
        for task in failed:
            end.fail(self.run_ids[task], reason)
            self._end(task, f"failed: {reason}{log}")
        return [task for task in open_ones if task not in failed]

    def _end(self, task: Task, reason: str) -> None:
        self.ended[task] = Ended(reason)
        self._show(task, reason or "done")

    def _show(self, task: Task, words: str, why: str = "") -> None:
        """Print `words` and `why` if `words` changed."""
        if self.shown.get(task) == words:
            return
        self.shown[task] = words
        number = self.tasks.index(task) + 1
        print(f"[{number}/{len(self.tasks)}] {task.config.run_name}: {words}{why}", flush=True)


def _seconds_left(task: Task, done: int, costs: Costs) -> float:
    if kind_of(task.config) not in costs:
        return float("inf")  # its probe failed, so give the training its own job
    epochs = (task.until or task.config.epochs) - done
    return seconds_of(task.config, costs, epochs, begun=done > 0)
