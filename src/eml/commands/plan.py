"""The `plan` command: shows the status of a recipe's trainings, and the time still needed."""

from collections.abc import Sequence
from typing import Any, cast

from eml.commands.launch import count_at_once, fetch_data, finals_launcher, launcher_of
from eml.config import Config
from eml.launchers.options import LaunchOptions
from eml.recipes import optimizers
from eml.recipes.options import RecipeOptions
from eml.recipes.recipe import Recipe
from eml.sweeps.plan import Plan, probe_costs
from eml.sweeps.search_plan import probe_search, search_plan
from eml.sweeps.status import status_of
from eml.threads import Asked
from eml.tracking.reap import begin
from eml.tracking.store import is_there
from eml.tracking.stores import names_in, open_others


def plan(
    recipe: Recipe, configs: Sequence[Config], options: RecipeOptions, launching: LaunchOptions
) -> dict[str, Any]:
    """Print the status of a recipe's trainings, and the time still needed, measured by probes.

    Arguments as for launch(). Finishes no training and logs nothing. Returns the same for JSON;
    `seconds` is 0 where they cannot be measured.
    """
    launcher = launcher_of(launching, count_at_once(launching, recipe, configs, options))
    configs = options.placed(configs, launcher.device)
    others = open_others(names_in(launching.stores))
    if is_there():  # without a store nothing is done yet, and a plan must not create one
        begin()
    status = status_of(recipe, configs, options, launching.resume, others)
    print(status, flush=True)
    found = {"recipe": recipe.name, "trainings": status.listed(), "seconds": 0.0}
    if status.all_done and not recipe.searches:
        print("all trainings are done")
        return found
    if why := launcher.why_not_probed(status.begun):
        print(f"{status.done} of {len(configs)} trainings have all their epochs; {why}")
        return found
    launcher.check(configs)
    threads = launching.number("threads")
    finals = finals_launcher(launching, launcher)
    with launcher:
        fetch_data(configs)
        if recipe.searches:
            costs, of_finals = probe_search(configs, launcher, finals, threads)
        else:
            costs = probe_costs(configs, launcher, Asked(threads, launcher.at_once))
    if recipe.searches:
        search = cast(optimizers.Options, options)
        arguments = (launcher, costs, (finals, of_finals), status.states, launching.resume, others)
        planned, left_out = search_plan(configs, search, *arguments)
        print("\n".join([str(planned), *left_out]))
        return found | {"seconds": planned.left, "left_out": left_out}
    rest = Plan(configs, launcher, costs, status.states)
    print(rest)
    return found | {"seconds": rest.left}
