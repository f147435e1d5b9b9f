"""Status of a recipe's trainings, from the store and from the launchers of their jobs."""

from collections.abc import Mapping
from typing import NamedTuple

from eml.analysis.labels import counted
from eml.config import Config
from eml.errors import printable
from eml.launchers.base import JobStatus, job_status
from eml.sweeps.request import Request
from eml.tracking import find, log
from eml.tracking.digests import training_digest
from eml.tracking.readers import FINISHED, StoredRun
from eml.tracking.resume import to_continue


class TrainingStatus(NamedTuple):
    """Status of one training."""

    words: str
    epochs: int  # done so far


class Status(NamedTuple):
    """Status of all trainings of a recipe."""

    states: Mapping[Config, TrainingStatus]  # of the recipe's Configs
    others: Mapping[str, TrainingStatus]  # of the parent's other trainings, by name

    @property
    def done(self) -> int:
        """Number of Configs that have all their epochs."""
        return sum(state.epochs >= config.epochs for config, state in self.states.items())

    def __str__(self) -> str:
        named = {config.run_name: state for config, state in self.states.items()}
        named |= self.others
        return "\n".join(printable(f"  {name}: {state.words}") for name, state in named.items())


def status_of(request: Request) -> Status:
    """The status, from the runs and checkpoints that the same command would use."""
    resume, alone, reuses = request.launching.resume, request.is_alone, request.recipe.reuses
    top = to_continue(request.digest, "", False) if resume and not alone else None
    parent = top.run.run_id if top else None
    children = find.children(parent) if parent else {}
    jobs = job_status(children.values())
    states = {}

    def kept(digest: str) -> int:
        one = to_continue(digest, "" if alone else parent, alone or reuses) if resume else None
        return one.checkpoint.epochs if one else 0

    for config in request.configs:
        digest = training_digest(config)
        run = children.pop(digest, None)
        done = run if run and run.status == FINISHED else None
        if not done and resume and reuses:
            done = find.finished_training(config, others=request.others)
        epochs, total = kept(digest), config.epochs
        counts = counted(total, "epoch")
        words = f"{epochs} of {counts} done" if epochs else f"{counts} to do"
        if done:
            words, epochs = f"done, run {done.where}", total
        elif run:
            words, epochs = _of_run(run, jobs.get(run.run_id), total, epochs)
        states[config] = TrainingStatus(words, epochs)
    others = {
        run.name: _of_run(run, jobs.get(run.run_id), run.epochs, kept(digest))
        for digest, run in children.items()
    }
    return Status(states, others)


def _of_run(run: StoredRun, job: JobStatus | None, epochs: int, kept: int) -> TrainingStatus:
    """The status of a training below the parent. kept: its epochs that can be continued."""
    ends = run.status in ("KILLED", "FAILED", "SCHEDULED")
    done = kept if ends else max(log.logged_epochs(run.run_id), default=0)
    progress = f"{done} of {counted(epochs, 'epoch')} done"
    see = f"; log {job.log}" if job and job.log else ""
    # A job that lives is requeued, and its run goes on.
    stopped = run.status == "KILLED" and not (job and job.lives)
    if run.status == FINISHED:
        words = f"done, run {run.run_id}"
    elif run.status == "FAILED" or stopped:
        words = f"{run.reason}, {progress}{see}"
    elif not job:  # this machine cannot tell whether the training goes on
        words = f"{progress}, run {run.run_id}"
    elif job.lives is False:
        words = f"{job.words}, {progress}{see}"
    else:
        word = "running" if run.status == "RUNNING" else "waiting"
        words = f"{word} {job.words}, {progress}, run {run.run_id}"
    return TrainingStatus(words, done)
