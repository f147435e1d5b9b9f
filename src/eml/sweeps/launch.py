"""Carries out a recipe, or plans it: one training in one MLflow run, or several as a sweep."""

from collections.abc import Sequence

from eml.analysis.labels import counted
from eml.config import AUTO, Config
from eml.errors import UserError
from eml.launchers.options import LaunchOptions
from eml.launchers.worker import train
from eml.models.optimizers import OPTIMIZERS
from eml.recipes import optimizers
from eml.recipes.recipe import Recipe, RecipeOptions
from eml.sweeps.compare_optimizers import compare_optimizers
from eml.sweeps.group import Trainings
from eml.sweeps.plan import Plan
from eml.sweeps.request import Request
from eml.sweeps.search_plan import search_plan
from eml.sweeps.status import status_of
from eml.tracking import resume, runs, store, tags
from eml.tracking.calls import uri
from eml.tracking.publish import report
from eml.tracking.reap import begin
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
    request = Request.of(recipe, configs, options, launching)
    request.launcher.check(request.configs)
    if request.code_checks and request.check == "only":
        return
    begin(create=True)
    _say_defaults(request)
    if request.is_alone:
        train(request.task(request.configs[0], Asked(launching.number("threads"))))
    else:
        _sweep(request)


def plan(
    recipe: Recipe,
    configs: Sequence[Config],
    options: RecipeOptions,
    launching: LaunchOptions,
) -> float:
    """Print the status of launch()'s trainings; return the seconds left, by probes, or 0."""
    request = Request.of(recipe, configs, options, launching)
    if request.code_checks and request.check == "only":
        return 0.0
    if store.is_there():
        begin(makes_run=False)
    else:  # a plan must not create one
        print(f"there is no store {uri()} yet, so nothing is done")
    _say_defaults(request)
    status = status_of(request)
    print(status, flush=True)
    is_search = isinstance(options, optimizers.Options)
    if status.done == len(configs) and not is_search:
        print("all trainings are done")
        return 0.0
    if not request.launcher.trains_here:
        print(f"{status.done} of {counted(len(configs), 'training')} with all epochs")
        return 0.0
    request.launcher.check(request.configs)
    rest = Plan(request.configs, request.launcher, status.states)
    with request.launcher:
        request.fetch_data()
        if is_search:
            rest = search_plan(request, status.states)
        else:
            request.launcher.measure(request.configs, launching.number("threads"), request.code)
    print(rest)
    return rest.left


def _say_defaults(request: Request) -> None:
    """Print each learning rate that is PyTorch's default, because none was chosen here."""
    if hasattr(request.options, "optimizer") and getattr(request.options, "lr", AUTO) == AUTO:
        for config in request.configs:
            name, model, rate = config.optimizer, config.model, config.learning_rate
            if model not in OPTIMIZERS[name].learning_rate:
                print(f"lr=auto: PyTorch's default for {name}, {rate:g}; none chosen for {model}")


def _sweep(request: Request) -> None:
    recipe, launching = request.recipe, request.launching
    with request.launcher:
        request.fetch_data()
        with resume.continued_run(
            request.digest,
            _sweep_name(request),
            recipe.about,
            {"recipe": recipe.name, tags.PLAN_DIGEST: request.digest},
            resume=launching.resume,
        ) as run:
            print(f"{recipe.name}: {runs.where()}", flush=True)
            trainings = Trainings(request, run.run_id)
            if isinstance(request.options, optimizers.Options):
                compare_optimizers(request, trainings)
            else:
                trainings.train(request.configs)
                if made := trainings.made_of(request.configs):
                    report(recipe, made, request.others)
            if failed := trainings.failed:
                reasons = "; ".join(f"{c.run_name}: {reason}" for c, reason in failed.items())
                total = counted(len(failed) + len(trainings.run_ids), "training")
                raise LaunchError(f"{len(failed)} of {total} failed: {reasons}")


def _sweep_name(request: Request) -> str:
    """The name of the parent run, with what tells two sweeps of a recipe apart most often."""
    options, seeds = vars(request.options), {config.seed for config in request.configs}
    name = f"{request.recipe.name} epochs={options['epochs']}"
    if subset := options["subset"]:
        name += f" subset={subset}"
    return f"{name} seeds={len(seeds)}" if len(seeds) > 1 else name
