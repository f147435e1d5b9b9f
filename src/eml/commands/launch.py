"""The commands of a recipe: its trainings launched, or planned."""

import click

from eml.commands.options import command
from eml.launchers.options import LaunchOptions
from eml.recipes.recipe import Recipe, RecipeOptions


def recipe_command(recipe: Recipe, action: str = "launch") -> click.Command:
    """The command that does this with what a recipe trains; action: "launch" or "plan"."""

    @command(recipe.options, LaunchOptions, name=recipe.name, about=recipe.about)
    def act(options: RecipeOptions, launching: LaunchOptions) -> None:
        configs = recipe.configs(options)  # refuses bad options before the imports, which take time
        from eml.sweeps import launch

        getattr(launch, action)(recipe, configs, options, launching)

    return act
