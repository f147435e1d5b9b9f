"""The command of a recipe: its trainings, launched."""

import click

from eml.commands.options import command
from eml.launchers.options import LaunchOptions
from eml.recipes.recipe import Recipe, RecipeOptions


def recipe_command(recipe: Recipe) -> click.Command:
    """The command that trains what a recipe asks for."""

    @command(recipe.options, LaunchOptions, name=recipe.name, about=recipe.about)
    def launch(options: RecipeOptions, launching: LaunchOptions) -> None:
        configs = recipe.configs(options)  # refuses bad options before the imports, which take time
        from eml.sweeps.launch import launch

        launch(recipe, configs, options, launching)

    return launch
