"""Runs a recipe's Configs, each as one training in one MLflow run, and reports on them."""

import inspect
import os
from collections.abc import Sequence

from eml.config import Config, ConfigError
from eml.data.cache import fetch
from eml.errors import UserError
from eml.launch_options import LaunchOptions, ResumeOptions
from eml.launchers.base import Launcher, Task
from eml.launchers.inline import Inline
from eml.launchers.slurm import cluster
from eml.launchers.worker import train
from eml.recipes import RECIPES, SearchOptions
from eml.sweeps.compare_optimizers import compare_optimizers
from eml.sweeps.group import Trainings
from eml.sweeps.plan import Plan, probe_costs, search_plan
from eml.sweeps.status import Standing, jobs_of, stand
from eml.tracking import find, resume, runs, tags
from eml.tracking.digests import plan_digest
from eml.tracking.publish import report
from eml.tracking.reap import begin
from eml.tracking.store import is_there, refuse_if_local


class LaunchError(UserError):
    """Some of several trainings failed; the message says which, and why."""

    exit_code = 1


def launch(recipe: str, configs: Sequence[Config], options: ResumeOptions) -> None:
    """Train each Config and log the recipe's figures.

    A recipe's own training writes into the run that `mlflow run` made, if there is one. A recipe
    made of several trainings makes that run the parent, and each training a nested child.

    Raises LaunchError, after all others are done, if a training failed.
    """
    if isinstance(options, LaunchOptions) and options.dry_run:
        _show_plan(recipe, configs, options)
        return
    begin(create=True)
    if not isinstance(options, LaunchOptions):
        (config,) = configs
        train(Task(config=config, resume=options.resume, check=getattr(options, "check", False)))
        return
    digest = plan_digest(recipe, configs, options)
    if options.resume and options.launcher != "slurm":
        _refuse_if_in_jobs(digest)
    with launcher_of(configs, options) as launcher:
        _fetch(configs)
        with resume.run(
            digest,
            recipe,
            inspect.getdoc(RECIPES[recipe]),
            {"recipe": recipe, tags.PLAN_DIGEST: digest},
            resume=options.resume,
        ) as run:
            print(f"{recipe}: {runs.where()}", flush=True)
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


def _refuse_if_in_jobs(digest: str) -> None:
    """Raise UserError if jobs of Slurm are at the trainings that this launch would take up."""
    parent = find.unfinished_plan(digest) if cluster.is_here() else None
    if parent and jobs_of(find.children(parent).values()):
        raise UserError(
            "jobs of Slurm are at these trainings: take them up with launcher=slurm, or end them "
            f"with `eml cancel {parent}`"
        )


def _show_plan(recipe: str, configs: Sequence[Config], options: LaunchOptions) -> None:
    if is_there():  # else nothing is done so far, and a look should not make a store
        begin()
    standing = stand(recipe, configs, options)
    print(standing, flush=True)
    text = _expected(recipe, configs, options, standing)
    print(text)
    if "MLFLOW_RUN_ID" in os.environ:
        with runs.run(f"plan of {recipe}", f"{standing}\n{text}", {"recipe": "plan"}):
            pass


def _expected(
    recipe: str, configs: Sequence[Config], options: LaunchOptions, standing: Standing
) -> str:
    """How long the rest takes, if this can be tried without disturbing what is under way."""
    if not isinstance(options, SearchOptions) and standing.all_done:
        return "all trainings are done"
    if options.launcher == "slurm" and not cluster.is_here():
        return "how long it takes is tried on the cluster alone"
    if options.launcher == "slurm" and standing.begun:  # looking should submit nothing
        return f"{standing.done} of {len(configs)} trainings have all their epochs"
    with launcher_of(configs, options) as launcher:
        _fetch(configs)
        costs = probe_costs(configs, launcher, options.jobs)
    if isinstance(options, SearchOptions):
        plan, left_out = search_plan(configs, options, costs, standing.states)
        return "\n".join([str(plan), *left_out])
    return str(Plan(configs, options, costs, standing.states))


def _fetch(configs: Sequence[Config]) -> None:
    """Once, before several processes want the data."""
    for dataset in {config.dataset: None for config in configs}:
        fetch(dataset)


def launcher_of(configs: Sequence[Config], options: LaunchOptions) -> Launcher:
    """The launcher that the options name.

    Raises ConfigError if trainings would share a GPU without being asked to.
    """
    if options.launcher == "inline":
        return Inline()
    # Each launcher has imports that only it needs.
    if options.launcher == "slurm":
        from eml.launchers.slurm.launcher import Slurm

        refuse_if_local()
        settings = options.slurm_settings()
        cluster.check(settings.flags)
        return Slurm(settings)
    from eml.launchers.local import Workers

    gpus = 0
    if any(config.device_type == "cuda" for config in configs):
        import torch

        gpus = torch.cuda.device_count()
        if options.jobs > gpus and not options.share_gpu:
            raise ConfigError(
                f"jobs={options.jobs}: there are {gpus} GPUs; give as many jobs, or share_gpu=true"
            )
    return Workers(options.jobs, gpus)
