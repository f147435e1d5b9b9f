"""Runs a recipe's Configs, each as one training in one MLflow run, and reports on them."""

import inspect
import os
from collections.abc import Sequence

from eml import resuming, tracking
from eml.config import Config, ConfigError
from eml.data import fetch
from eml.errors import UserError
from eml.identity import plan_digest
from eml.optimizers import compare_optimizers
from eml.plan import Plan, probe_costs, search_plan, states
from eml.recipes import RECIPES, LaunchOptions, ResumeOptions, SearchOptions
from eml.reporting import report
from eml.store import open_store
from eml.tracked import Task, train
from eml.trainings import Trainings
from eml.work import Inline, Launcher


class LaunchError(UserError):
    """Some of several trainings failed; the message says which, and why."""

    exit_code = 1


def launch(recipe: str, configs: Sequence[Config], options: ResumeOptions) -> None:
    """Train each Config and log the recipe's figures.

    A recipe's own training writes into the run that `mlflow run` made, if there is one. A recipe
    made of several trainings makes that run the parent, and each training a nested child.

    Raises LaunchError, after all others are done, if a training failed.
    """
    if not isinstance(options, LaunchOptions):
        (config,) = configs
        train(Task(config=config, resume=options.resume, check=getattr(options, "check", False)))
        return
    with launcher_of(configs, options) as launcher:
        for dataset in {config.dataset: None for config in configs}:
            fetch(dataset)  # once, before several want it
        if options.dry_run:
            _show_plan(recipe, configs, options, launcher)
            return
        with resuming.run(
            plan_digest(recipe, configs, options),
            recipe,
            inspect.getdoc(RECIPES[recipe]),
            {"recipe": recipe},
            resume=options.resume,
        ) as run:
            print(f"{recipe}: {tracking.where()}", flush=True)
            trainings = Trainings(recipe, run.run_id, launcher, options)
            if isinstance(options, SearchOptions):
                compare_optimizers(configs, options, trainings)
            else:
                trainings.train(configs)
                if made := trainings.made_of(configs):
                    report(recipe, made)
            if failed := trainings.failed:
                reasons = "; ".join(f"{c.run_name}: {reason}" for c, reason in failed.items())
                total = len(failed) + len(trainings.run_ids)
                raise LaunchError(f"{len(failed)} of {total} trainings failed: {reasons}")


def _show_plan(
    recipe: str, configs: Sequence[Config], options: LaunchOptions, launcher: Launcher
) -> None:
    open_store()
    costs = probe_costs(configs, launcher, options.jobs)
    if isinstance(options, SearchOptions):
        plan, left_out = search_plan(configs, options, costs)
    else:
        plan, left_out = Plan(configs, options, costs, states(recipe, configs, options)), []
    text = "\n".join([str(plan), *left_out])
    print(text)
    if "MLFLOW_RUN_ID" in os.environ:
        with tracking.run(f"plan of {recipe}", text, {"recipe": "plan"}):
            pass


def launcher_of(configs: Sequence[Config], options: LaunchOptions) -> Launcher:
    """The launcher that the options name.

    Raises ConfigError if trainings would share a GPU without being asked to.
    """
    if options.launcher == "inline":
        return Inline()
    from eml.local import Workers  # what only its launcher needs

    gpus = 0
    if any(config.device_type == "cuda" for config in configs):
        import torch

        gpus = torch.cuda.device_count()
        if options.jobs > gpus and not options.share_gpu:
            raise ConfigError(
                f"jobs={options.jobs}: there are {gpus} GPUs; give as many jobs, or share_gpu=true"
            )
    return Workers(options.jobs, gpus)
