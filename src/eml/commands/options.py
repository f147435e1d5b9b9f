"""Click commands and options, made from the fields of dataclasses."""

import dataclasses
import json
import sys
import typing
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForPrograms:
    """The option of a command whose result a program may read."""

    json: Annotated[bool, "print the result as JSON, and the text to stderr"] = False

    def print_result(self, carry_out: Callable[[], dict[str, Any]]) -> None:
        """Call a function that prints its result as text and returns it for JSON."""
        with redirect_stdout(sys.stderr) if self.json else nullcontext():
            result = carry_out()
        if self.json:
            print(json.dumps(result, indent=2, allow_nan=False))
