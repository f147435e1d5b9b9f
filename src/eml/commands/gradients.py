"""The `gradients` command: one step of gradient descent, exactly."""

from eml.commands.options import command
from eml.exact import command as exact


@command(exact.Options, about=exact.ABOUT)
def gradients(options: exact.Options) -> None:
    exact.gradients(options)
