"""Carries out a recipe, or plans it: one training in one MLflow run, or several as a sweep."""

from collections.abc import Sequence
from typing import Any

from eml.config import AUTO, Config, resolve_device
from eml.data.cache import fetch
from eml.errors import UserError
from eml.launchers.base import Launcher, Task, job_status, launcher_class
from eml.launchers.options import LaunchOptions
from eml.launchers.worker import Inline, train
from eml.machine import worker_count
from eml.recipes import optimizers
from eml.recipes.options import RecipeOptions
from eml.recipes.recipe import Recipe
from eml.sweeps.compare_optimizers import compare_optimizers
from eml.sweeps.group import Trainings
from eml.sweeps.plan import Plan, probe_costs
from eml.sweeps.search_plan import probe_search, search_plan
from eml.sweeps.status import status_of
from eml.tracking import find, resume
from eml.tracking.digests import plan_digest
from eml.tracking.publish import make_output, report
from eml.tracking.reap import begin
from eml.tracking.runs import where
from eml.tracking.store import is_there
from eml.tracking.stores import Others, names_in, open_others
from eml.tracking.tags import PLAN_DIGEST
from eml.training.threads import Asked


class LaunchError(UserError):
    """Some of several trainings failed; the message says which, and why."""

    exit_code = 1


def launch(
    recipe: Recipe, configs: Sequence[Config], options: RecipeOptions, launching: LaunchOptions
) -> None:
    """Train each Config of a recipe, and log the recipe's figures.

    configs: the result of recipe.configs(options); this function chooses the device.

    A recipe of one training uses the run that `mlflow run` made, if there is one. With several
    trainings, or a launcher that uses other processes, that run becomes the parent run, and each
    training gets a nested run.

    Raises LaunchError if a training failed, after all trainings have ended.
    """
    launcher, configs, others = _prepared(recipe, configs, options, launching)
    launcher.check(configs)
    make_output(launching.output)
    begin(create=True)
    if launcher.in_this_run and [config.recipe for config in configs] == [recipe.name]:
        task = Task(
            config=configs[0],
            threads=Asked(launching.number("threads")),
            resume=launching.resume,
            check=options.checks_gradients,
            output=launching.output,
            system_metrics=launching.system_metrics,
        )
        train(task)
    else:
        _sweep(recipe, configs, options, launching, launcher, others)


def plan(
    recipe: Recipe, configs: Sequence[Config], options: RecipeOptions, launching: LaunchOptions
) -> dict[str, Any]:
    """Print the status of a recipe's trainings, and the time still needed, measured by probes.

    Arguments as for launch(). Finishes no training and logs nothing. Returns the same for JSON;
    `seconds` is 0 where they cannot be measured.
    """
    launcher, configs, others = _prepared(recipe, configs, options, launching)
    if is_there():  # without a store nothing is done yet, and a plan must not create one
        begin()
    status = status_of(recipe, configs, options, launching.resume, others)
    print(status, flush=True)
    result = {"recipe": recipe.name, "trainings": status.listed(), "seconds": 0.0}
    search = options if isinstance(options, optimizers.Options) else None
    if status.all_done and not search:
        print("all trainings are done")
        return result
    if why := launcher.why_not_probed(status.begun):
        print(f"{status.done} of {len(configs)} trainings have all their epochs; {why}")
        return result
    launcher.check(configs)
    threads = launching.number("threads")
    left_out: list[str] = []
    with launcher:
        fetch_data(configs)
        if search:
            finals = finals_launcher(launching, launcher)
            costs, of_finals = probe_search(configs, launcher, finals, threads)
            by = finals, of_finals
            done = status.states, launching.resume, others
            rest: Plan
            rest, left_out = search_plan(configs, search, launcher, costs, by, *done)
        else:
            costs = probe_costs(configs, launcher, Asked(threads, launcher.at_once))
            rest = Plan(configs, launcher, costs, status.states)
    print("\n".join([str(rest), *left_out]))
    return result | {"seconds": rest.left, "left_out": left_out}


def _prepared(
    recipe: Recipe, configs: Sequence[Config], options: RecipeOptions, launching: LaunchOptions
) -> tuple[Launcher, Sequence[Config], Others]:
    """Choose the launcher, place the Configs on its device, and open the further stores."""
    launcher = launcher_of(launching, count_at_once(launching, recipe, configs, options))
    configs = options.placed(configs, launcher.device)
    return launcher, configs, open_others(names_in(launching.stores))


def launcher_of(launching: LaunchOptions, jobs: int = 1) -> Launcher:
    """The launcher that the options name, for this number of trainings at once."""
    name = launching.launcher
    if name == AUTO:
        name = "local" if jobs > 1 else "inline"
    return launcher_class(name).of(launching, jobs)


def finals_launcher(launching: LaunchOptions, launcher: Launcher) -> Launcher:
    """The launcher of the trainings that a search ends with, whose seconds are compared."""
    chosen = launching.launcher != AUTO or launching.number("jobs")
    return launcher if chosen else Inline()


def count_at_once(
    launching: LaunchOptions, recipe: Recipe, configs: Sequence[Config], options: RecipeOptions
) -> int:
    """The trainings at once: as asked for, or one a core where accuracies alone are compared."""
    if given := launching.number("jobs"):
        return given
    if launching.launcher not in (AUTO, "local") or not recipe.reuses:
        return 1
    placed = options.placed(configs, resolve_device)
    if any(config.device_type == "cuda" for config in placed):
        return 1
    return worker_count(len(configs))


def fetch_data(configs: Sequence[Config]) -> None:
    """Fetch the data once, before several processes need them."""
    for dataset in {config.dataset: None for config in configs}:
        fetch(dataset)


def _sweep(
    recipe: Recipe,
    configs: Sequence[Config],
    options: RecipeOptions,
    launching: LaunchOptions,
    launcher: Launcher,
    others: Others,
) -> None:
    digest = plan_digest(recipe.name, configs, options)
    if launching.resume:
        _refuse_if_in_other_jobs(digest, launcher)
    with launcher:
        fetch_data(configs)
        with resume.continued_run(
            digest,
            _sweep_name(recipe, configs),
            recipe.about,
            {"recipe": recipe.name, PLAN_DIGEST: digest},
            resume=launching.resume,
        ) as run:
            print(f"{recipe.name}: {where()}", flush=True)
            check = options.checks_gradients
            trainings = Trainings(recipe, run.run_id, launcher, launching, check, others)
            if isinstance(options, optimizers.Options):
                finals = finals_launcher(launching, launcher)
                compare_optimizers(recipe, configs, options, trainings, finals, launching.output)
            else:
                trainings.train(configs)
                if made := trainings.made_of(configs):
                    report(recipe, made, launching.output, others)
            if failed := trainings.failed:
                reasons = "; ".join(f"{c.run_name}: {reason}" for c, reason in failed.items())
                total = len(failed) + len(trainings.run_ids)
                raise LaunchError(f"{len(failed)} of {total} trainings failed: {reasons}")


def _sweep_name(recipe: Recipe, configs: Sequence[Config]) -> str:
    """The name of the parent run, with what tells two sweeps of a recipe apart most often."""
    name = f"{recipe.name} epochs={configs[0].epochs}"
    if subset := configs[0].subset:
        name += f" subset={subset}"
    seeds = {config.seed for config in configs}
    return f"{name} seeds={len(seeds)}" if len(seeds) > 1 else name


def _refuse_if_in_other_jobs(digest: str, launcher: Launcher) -> None:
    """Raise UserError if jobs of another launcher already have the trainings of this launch."""
    parent = find.unfinished_plan(digest)
    runs = find.children(parent).values() if parent else ()
    for job in job_status(runs).values():
        name = job.launcher
        if job.lives and not isinstance(launcher, launcher_class(name)):
            raise UserError(
                f"these trainings are in {name} jobs: continue them with launcher={name}, or end "
                f"them with `eml cancel {parent}`"
            )
