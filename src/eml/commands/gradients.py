"""The `gradients` command: one step of gradient descent, exactly."""

import click

from eml import exact


@click.command(help=exact.__doc__)
def gradients() -> None:
    from eml.exact.command import gradients

    gradients()
