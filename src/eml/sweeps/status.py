"""Status of a recipe's trainings, from the store and from Slurm."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from eml.config import Config
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cluster import Alive, ClusterError
from eml.recipes.options import RecipeOptions
from eml.recipes.recipe import Recipe
from eml.text import printable
from eml.tracking import find, log
from eml.tracking.digests import plan_digest, training_digest
from eml.tracking.stored_run import StoredRun
from eml.tracking.stores import Others
from eml.tracking.tags import PAUSED_AFTER, PRUNED_AFTER, SLURM_JOB, SLURM_LOG
from eml.training.checkpoints import places


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
    alive = jobs_of(children.values()) if cluster.is_here() else None
    states, others = {}, {}
    for digest, config in digests.items():
        states[config] = _state(digest, config, children.get(digest), alive, recipe, resume, stores)
    for digest, run in children.items():
        if digest not in digests:
            others[run.name] = _of_run(run, alive, run.epochs)
    return Status(states, others, begun=bool(parent))


def jobs_of(runs: Iterable[StoredRun]) -> dict[str, Alive] | None:
    """The waiting and running jobs of unfinished trainings; None if Slurm does not answer."""
    with suppress(ClusterError):
        unfinished = (run for run in runs if run.status != "FINISHED")
        return cluster.alive(run.tags.get(SLURM_JOB, "") for run in unfinished)
    return None


def _state(
    digest: str,
    config: Config,
    run: StoredRun | None,
    alive: Mapping[str, Alive] | None,
    recipe: Recipe,
    resume: bool,
    stores: Others,
) -> TrainingStatus:
    if run and run.status == "FINISHED":
        return TrainingStatus(f"done, run {run.run_id}", config.epochs)
    if resume and recipe.reuses and (done := find.finished_training(config, others=stores)):
        return TrainingStatus(f"done, run {done.where}", config.epochs)
    if run:
        return _of_run(run, alive, config.epochs)
    epochs = 0
    if resume:
        here = (place for place in places(digest) if find.of_checkpoint(place.name))
        epochs = max((place.epochs() for place in here), default=0)
    if epochs:
        return TrainingStatus(f"{epochs} of {config.epochs} epochs done", epochs)
    return TrainingStatus(f"{config.epochs} epochs to do", 0)


def _of_run(run: StoredRun, alive: Mapping[str, Alive] | None, epochs: int) -> TrainingStatus:
    """The status of a training whose run is not finished."""
    done = max(log.logged_epochs(run.run_id), default=0)
    progress = f", {done} of {epochs} epochs done"
    job, log_file = run.tags.get(SLURM_JOB, ""), run.tags.get(SLURM_LOG)
    in_job = f" in job {job}" if job else ""
    if alive is not None and job in alive:
        in_job += f" ({alive[job]})"
    see = f"; log {log_file}" if log_file else ""
    if run.status == "FINISHED":
        return TrainingStatus(f"done, run {run.run_id}", done)
    if run.status == "FAILED":
        return TrainingStatus(f"{run.reason}{progress}{see}", done)
    if PRUNED_AFTER in run.tags:
        return TrainingStatus(f"pruned after epoch {run.tags[PRUNED_AFTER]}", done)
    if run.status == "KILLED" and not (alive and job in alive):  # an alive job is requeued
        return TrainingStatus(f"{run.reason}{progress}{see}", done)
    if PAUSED_AFTER in run.tags:
        return TrainingStatus(f"waits for the other trainings of its search{progress}", done)
    if not job:  # this machine cannot tell whether the training goes on
        return TrainingStatus(f"{progress.removeprefix(', ')}, run {run.run_id}", done)
    if alive is not None and job not in alive:
        return TrainingStatus(f"job {job} has ended: {cluster.outcome(job)}{progress}{see}", done)
    word = "running" if run.status == "RUNNING" else "waiting"
    return TrainingStatus(f"{word}{in_job}{progress}, run {run.run_id}", done)
