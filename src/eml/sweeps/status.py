"""Status of a recipe's trainings, from the store and from the launchers of their jobs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eml.config import Config
from eml.errors import printable
from eml.launchers.base import JobStatus, job_status
from eml.recipes.options import RecipeOptions
from eml.recipes.recipe import Recipe
from eml.tracking import find, log
from eml.tracking.digests import plan_digest, training_digest
from eml.tracking.stored_run import StoredRun
from eml.tracking.stores import Others
from eml.tracking.tags import PAUSED_AFTER, PRUNED_AFTER
from eml.training.checkpoints import slots


class TrainingStatus(NamedTuple):
    """Status of one training."""

    words: str
    epochs: int  # done so far


class Status(NamedTuple):
    """Status of all trainings of a recipe."""

    states: Mapping[Config, TrainingStatus]  # of the recipe's Configs
    others: Mapping[str, TrainingStatus]  # of the parent's other trainings, by name
    begun: bool  # whether the same command would continue a parent run

    @property
    def done(self) -> int:
        """Number of Configs that have all their epochs."""
        return sum(state.epochs >= config.epochs for config, state in self.states.items())

    @property
    def all_done(self) -> bool:
        return self.done == len(self.states)

    @property
    def named(self) -> dict[str, TrainingStatus]:
        """All trainings by name."""
        return {config.run_name: state for config, state in self.states.items()} | dict(self.others)

    def listed(self) -> list[dict[str, str | int]]:
        """All trainings, for JSON."""
        return [
            {"name": name, "status": state.words, "epochs_done": state.epochs}
            for name, state in self.named.items()
        ]

    def __str__(self) -> str:
        return "\n".join(
            printable(f"  {name}: {state.words}") for name, state in self.named.items()
        )


def status_of(
    recipe: Recipe,
    configs: Sequence[Config],
    options: RecipeOptions,
    resume: bool,
    stores: Others = (),
) -> Status:
    """The status, from the runs and checkpoints that the same command would use."""
    digests = {training_digest(config): config for config in configs}
    parent = find.unfinished_plan(plan_digest(recipe.name, configs, options)) if resume else None
    children = find.children(parent) if parent else {}
    jobs = job_status(children.values())
    states, others = {}, {}
    for digest, config in digests.items():
        run = children.get(digest)
        job = jobs.get(run.run_id) if run else None
        states[config] = _state(digest, config, run, job, recipe, resume, stores)
    for digest, run in children.items():
        if digest not in digests:
            others[run.name] = _of_run(run, jobs.get(run.run_id), run.epochs)
    return Status(states, others, begun=bool(parent))


def _state(
    digest: str,
    config: Config,
    run: StoredRun | None,
    job: JobStatus | None,
    recipe: Recipe,
    resume: bool,
    stores: Others,
) -> TrainingStatus:
    if run and run.status == "FINISHED":
        return TrainingStatus(f"done, run {run.run_id}", config.epochs)
    if resume and recipe.reuses and (done := find.finished_training(config, others=stores)):
        return TrainingStatus(f"done, run {done.where}", config.epochs)
    if run:
        return _of_run(run, job, config.epochs)
    epochs = 0
    if resume:
        here = (slot for slot in slots(digest) if find.of_checkpoint(slot.name))
        begun = [checkpoint for slot in here if (checkpoint := slot.load())]
        epochs = max((checkpoint.epochs for checkpoint in begun), default=0)
    if epochs:
        return TrainingStatus(f"{epochs} of {config.epochs} epochs done", epochs)
    return TrainingStatus(f"{config.epochs} epochs to do", 0)


def _of_run(run: StoredRun, job: JobStatus | None, epochs: int) -> TrainingStatus:
    """The status of a training whose run is not finished."""
    done = max(log.logged_epochs(run.run_id), default=0)
    progress = f", {done} of {epochs} epochs done"
    see = f"; log {job.log}" if job and job.log else ""
    if run.status == "FINISHED":
        return TrainingStatus(f"done, run {run.run_id}", done)
    if run.status == "FAILED":
        return TrainingStatus(f"{run.reason}{progress}{see}", done)
    if PRUNED_AFTER in run.tags:
        return TrainingStatus(f"pruned after epoch {run.tags[PRUNED_AFTER]}", done)
    if run.status == "KILLED" and not (job and job.lives):  # a job that lives is requeued
        return TrainingStatus(f"{run.reason}{progress}{see}", done)
    if PAUSED_AFTER in run.tags:
        return TrainingStatus(f"waits for the other trainings of its search{progress}", done)
    if not job:  # this machine cannot tell whether the training goes on
        return TrainingStatus(f"{progress.removeprefix(', ')}, run {run.run_id}", done)
    if job.lives is False:
        return TrainingStatus(f"{job.words}{progress}{see}", done)
    word = "running" if run.status == "RUNNING" else "waiting"
    return TrainingStatus(f"{word} {job.words}{progress}, run {run.run_id}", done)
