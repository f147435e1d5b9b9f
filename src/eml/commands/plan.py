"""The `plan` command: shows the status of a recipe's trainings, and the time still needed."""

import click

from eml.commands.options import command
from eml.launchers.options import LaunchOptions
from eml.recipes import RECIPES
from eml.recipes.recipe import Recipe, RecipeOptions


@click.group()
def plan() -> None:
    """Show the status of a recipe's trainings, and the time that the unfinished ones take.

    Measures a few batches of each kind of training, and logs nothing.
    """


def _plan_command(recipe: Recipe) -> click.Command:
    @command(recipe.options, LaunchOptions, name=recipe.name, about=recipe.about)
    def plan(options: RecipeOptions, launching: LaunchOptions) -> None:
        configs = recipe.configs(options)
        from eml.sweeps.launch import plan

        plan(recipe, configs, options, launching)

    return plan


for _recipe in RECIPES.values():
    plan.add_command(_plan_command(_recipe))
