"""Click commands and options, made from the fields of dataclasses."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import click


def _option(field: dataclasses.Field[Any]) -> click.Option:
    """An option. A boolean is text ("--check true"), because `mlflow run` passes text."""
    kind, about = typing.get_args(field.type)
    if kind is not bool:
        settings = {"type": kind, "default": field.default}
    else:
        settings = {
            "type": click.Choice(("true", "false")),
            "default": str(field.default).lower(),
            "callback": lambda _context, _option, value: value == "true",
        }
    return click.Option([f"--{field.name}"], show_default=True, help=about, **settings)


def command(
    *classes: type, name: str = "", about: str = ""
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function, which is called with one object of each of these dataclasses.

    Name and help are those of the function, unless given.
    """

    def made(class_: type, values: dict[str, Any]) -> object:
        return class_(**{field.name: values[field.name] for field in dataclasses.fields(class_)})

    def decorate(function: Callable[..., None]) -> click.Command:
        return click.Command(
            name or function.__name__,
            callback=lambda **values: function(*(made(class_, values) for class_ in classes)),
            params=[_option(field) for class_ in classes for field in dataclasses.fields(class_)],
            help=about or function.__doc__,
        )

    return decorate
