"""The `plan` command: shows the status of a recipe's trainings, and the time still needed."""

from collections.abc import Sequence
from typing import Any, cast

from eml.commands.launch import fetch_data, launcher_of
from eml.config import Config
from eml.launch_options import LaunchOptions
from eml.recipes import optimizers
from eml.recipes.options import RecipeOptions
from eml.recipes.recipe import Recipe
from eml.sweeps.plan import Plan, probe_costs
from eml.sweeps.search_plan import search_plan
from eml.sweeps.status import status_of
from eml.tracking.reap import begin
from eml.tracking.store import is_there


def plan(
    recipe: Recipe, configs: Sequence[Config], options: RecipeOptions, launching: LaunchOptions
) -> dict[str, Any]:
    """Print the status of a recipe's trainings, and the time still needed, measured by probes.

    Arguments as for launch(). Finishes no training and logs nothing. Returns the same for JSON;
    `seconds` is 0 where they cannot be measured.
    """
    launcher = launcher_of(launching)
    configs = options.placed(configs, launcher.device)
    if is_there():  # without a store nothing is done yet, and a plan must not create one
        begin()
    status = status_of(recipe, configs, options, launching.resume)
    print(status, flush=True)
    found = {"recipe": recipe.name, "trainings": status.listed(), "seconds": 0.0}
    if status.all_done and not recipe.searches:
        print("all trainings are done")
        return found
    if why := launcher.why_not_probed(status.begun):
        print(f"{status.done} of {len(configs)} trainings have all their epochs; {why}")
        return found
    launcher.check(configs)
    with launcher:
        fetch_data(configs)
        costs = probe_costs(configs, launcher)
    if recipe.searches:
        search = cast(optimizers.Options, options)
        arguments = (launcher, costs, status.states, launching.resume)
        planned, left_out = search_plan(configs, search, *arguments)
        print("\n".join([str(planned), *left_out]))
        return found | {"seconds": planned.left, "left_out": left_out}
    rest = Plan(configs, launcher, costs, status.states)
    print(rest)
    return found | {"seconds": rest.left}
