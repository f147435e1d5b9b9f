"""The trainings that a command asks for, and the launcher that is to carry them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eml.config import AUTO, Config, no_effect, resolve_device
from eml.data.cache import fetch
from eml.launchers.base import Launcher, Task, launcher_class
from eml.launchers.options import LaunchOptions
from eml.launchers.worker import Inline
from eml.machine import hardware, worker_count
from eml.models.own_check import check_each
from eml.recipes.recipe import Recipe, RecipeOptions
from eml.tracking.digests import plan_digest
from eml.tracking.find import Others, names_in, open_others
from eml.training.threads import Asked


@dataclass(frozen=True)
class Request:
    """A recipe's trainings with the user's options."""

    recipe: Recipe
    configs: Sequence[Config]  # for the launcher's device
    options: RecipeOptions
    launching: LaunchOptions
    launcher: Launcher
    others: Others  # the stores of others
    code: str = ""  # path of the user's own code
    check: str = ""  # the option

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        configs: Sequence[Config],
        options: RecipeOptions,
        launching: LaunchOptions,
    ) -> "Request":
        """Choose the launcher, place the Configs on its device, and open the stores of others."""
        jobs = launching.number("jobs")
        # One training a core where accuracies alone are compared.
        if not jobs and recipe.reuses and launching.launcher in (AUTO, "local"):
            placed = options.placed(configs, resolve_device)
            on_gpu = any(config.device_type == "cuda" for config in placed)
            jobs = 1 if on_gpu else worker_count(len(configs))
        launcher = launcher_of(launching, jobs or 1)
        configs = options.placed(configs, launcher.device)
        devices = " and ".join(sorted({config.device_type for config in configs}))
        reuses = recipe.reuses and launching.resume
        effects = {"stores": reuses, "threads": "cpu" in devices}
        for name, acts in effects.items():
            if not acts and (value := getattr(launching, name)) != getattr(LaunchOptions, name):
                resume = f"resume={str(launching.resume).lower()}"
                raise no_effect(name, value, f"{recipe.name} on {devices}, {resume}")
        others = open_others(names_in(launching.stores))
        code, check = (getattr(options, name, "") for name in ("code", "check"))
        if check == "true" and not code and configs[0].framework == "torch":
            raise no_effect("check", check, f"{recipe.name} without code")
        return cls(recipe, configs, options, launching, launcher, others, code, check)

    @cached_property
    def code_checks(self) -> dict[str, str]:
        """What the check of the user's own code finds, by network. Raises UserError if it fails."""
        return check_each(self.code, self.configs)

    def task(self, config: Config, threads: Asked, **of_parent: Any) -> Task:
        """The task of a training. of_parent: fields of a training in a sweep."""
        return Task(
            config=config,
            threads=threads,
            resume=self.launching.resume,
            check=self.check == "true" and not self.code,
            code=self.code,
            code_check=self.code_checks.get(config.model, ""),
            **of_parent,
        )

    @cached_property
    def digest(self) -> str:
        """The plan digest."""
        return plan_digest(self.recipe.name, self.configs, self.options)

    @property
    def is_alone(self) -> bool:
        """Whether the training is one that needs no parent run."""
        recipes = [config.recipe for config in self.configs]
        return self.launcher.in_this_run and recipes == [self.recipe.name]

    @cached_property
    def finals_launcher(self) -> Launcher:
        """The launcher of the trainings that a search ends with, whose seconds are compared."""
        chosen = self.launching.launcher != AUTO or self.launching.number("jobs")
        return self.launcher if chosen else Inline()

    @cached_property
    def timed_alike(self) -> dict[str, str]:
        """Tags of a run whose seconds can stand beside those of the finals."""
        tags = {"trainings_at_once": str(self.finals_launcher.at_once)}
        if self.finals_launcher.trains_here:
            tags["hardware"] = hardware(self.configs[0].device_type)
        if threads := self.launching.number("threads"):
            tags["threads"] = str(threads)
        return tags

    def fetch_data(self) -> None:
        """Fetch the data once, before several processes need them."""
        for dataset in {config.dataset: None for config in self.configs}:
            fetch(dataset)


def launcher_of(launching: LaunchOptions, jobs: int = 1) -> Launcher:
    """The launcher that the options name, for this number of trainings at once."""
    name = launching.launcher
    if name == AUTO:
        name = "local" if jobs > 1 else "inline"
    return launcher_class(name)(launching, jobs)
