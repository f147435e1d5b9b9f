"""Where the trainings of a recipe stand: read from the store, whoever it is that trains them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from eml.config import Config
from eml.launch_options import LaunchOptions
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cluster import Alive, ClusterError
from eml.recipes import REUSING
from eml.text import printable
from eml.tracking import find, log
from eml.tracking.digests import plan_digest, training_digest
from eml.tracking.find import Found
from eml.tracking.tags import PAUSED_AFTER, PRUNED_AFTER, SLURM_JOB, SLURM_LOG
from eml.training.checkpoints import places


class State(NamedTuple):
    """Where a training stands."""

    words: str
    epochs: int  # that are done


class Standing(NamedTuple):
    """Where all trainings of a recipe stand."""

    states: Mapping[Config, State]  # of the Configs asked for
    others: Mapping[str, State]  # by name: what a search has come to besides
    begun: bool  # by a process that the same command would take over from

    @property
    def done(self) -> int:
        """How many of the Configs have all their epochs."""
        return sum(state.epochs >= config.epochs for config, state in self.states.items())

    @property
    def all_done(self) -> bool:
        return self.done == len(self.states)

    def __str__(self) -> str:
        named = {config.run_name: state for config, state in self.states.items()} | self.others
        return "\n".join(printable(f"  {name}: {state.words}") for name, state in named.items())


def stand(recipe: str, configs: Sequence[Config], options: LaunchOptions) -> Standing:
    """Where trainings stand, by what of the store and the checkpoints is going to be used."""
    digests = {training_digest(config): config for config in configs}
    parent = options.resume and find.unfinished_plan(plan_digest(recipe, configs, options))
    children = find.children(parent) if parent else {}
    alive = jobs_of(children.values()) if cluster.is_here() else None
    states, others = {}, {}
    for digest, config in digests.items():
        states[config] = _state(digest, config, children.get(digest), alive, recipe, options)
    for digest, run in children.items():
        if digest not in digests:
            others[run.name] = _of_run(run, alive, run.epochs)
    return Standing(states, others, bool(parent))


def jobs_of(runs: Iterable[Found]) -> dict[str, Alive] | None:
    """The jobs of unfinished trainings that wait or run; None if Slurm does not answer."""
    with suppress(ClusterError):
        unfinished = (run for run in runs if run.status != "FINISHED")
        return cluster.alive(run.tags.get(SLURM_JOB, "") for run in unfinished)
    return None


def _state(
    digest: str,
    config: Config,
    run: Found | None,
    alive: Mapping[str, Alive] | None,
    recipe: str,
    options: LaunchOptions,
) -> State:
    if run and run.status == "FINISHED":
        return State(f"done, run {run.run_id}", config.epochs)
    if options.resume and recipe in REUSING and (done := find.finished_training(config)):
        return State(f"done, run {done}", config.epochs)
    if run:
        return _of_run(run, alive, config.epochs)
    epochs = 0
    if options.resume:
        here = (place for place in places(digest) if find.of_checkpoint(place.name))
        epochs = max((place.epochs() for place in here), default=0)
    if epochs:
        return State(f"{epochs} of {config.epochs} epochs done", epochs)
    return State(f"{config.epochs} epochs to do", 0)


def _of_run(run: Found, alive: Mapping[str, Alive] | None, epochs: int) -> State:
    """Of a training that has a run, but is not finished."""
    done = max(log.logged_epochs(run.run_id), default=0)
    progress = f", {done} of {epochs} epochs done"
    job, log_file = run.tags.get(SLURM_JOB), run.tags.get(SLURM_LOG)
    in_job = f" in job {job}" if job else ""
    if alive is not None and job in alive:
        in_job += f" ({alive[job]})"
    see = f"; log {log_file}" if log_file else ""
    if run.status == "FINISHED":
        return State(f"done, run {run.run_id}", done)
    if run.status == "FAILED":
        return State(f"{run.reason}{progress}{see}", done)
    if PRUNED_AFTER in run.tags:
        return State(f"given up after epoch {run.tags[PRUNED_AFTER]}", done)
    if run.status == "KILLED" and not (alive and job in alive):  # else it is to be requeued
        return State(f"{run.reason}{progress}{see}", done)
    if PAUSED_AFTER in run.tags:
        return State(f"waits for the others of its search{progress}", done)
    if not job:  # whether a process is at it cannot be told from here
        return State(f"{progress.removeprefix(', ')}, run {run.run_id}", done)
    if alive is not None and job not in alive:
        return State(f"left by job {job}: {cluster.outcome(job)}{progress}{see}", done)
    word = "running" if run.status == "RUNNING" else "waiting"
    return State(f"{word}{in_job}{progress}, run {run.run_id}", done)
