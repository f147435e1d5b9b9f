"""The `plan` command: shows the status of a recipe's trainings, and the time still needed."""

import click

from eml.commands.launch import recipe_command
from eml.recipes import RECIPES


@click.group()
def plan() -> None:
    """Show the status of a recipe's trainings, and the time that the unfinished ones take.

    Measures a few batches of each kind of training, and logs nothing.
    """


for recipe in RECIPES.values():
    plan.add_command(recipe_command(recipe, "plan"))
