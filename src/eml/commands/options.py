"""Click commands and options, made from the fields of dataclasses."""

import dataclasses
import json
import sys
import typing
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

import click


class TrueOrFalse(click.Choice):
    """A boolean as text ("--check true"), because `mlflow run` passes text."""

    def __init__(self) -> None:
        super().__init__(("true", "false"))

    def convert(self, value: object, *context: Any) -> bool:
        return value if isinstance(value, bool) else super().convert(value, *context) == "true"


def options_of(*classes: type) -> list[click.Parameter]:
    """A click option for each field of these dataclasses, with type, default and help."""
    options: list[click.Parameter] = []
    for field in (field for class_ in classes for field in dataclasses.fields(class_)):
        value_type, about = typing.get_args(field.type)
        default = field.default
        if value_type is bool:
            value_type, default = TrueOrFalse(), str(default).lower()
        options.append(
            click.Option(
                [f"--{field.name}"], type=value_type, default=default, show_default=True, help=about
            )
        )
    return options


def command(
    *classes: type, name: str = "", about: str = ""
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function, which is called with one object of each of these dataclasses.

    Name and help are those of the function, unless given.
    """

    def decorate(carry_out: Callable[..., None]) -> click.Command:
        def callback(**values: Any) -> None:
            names = [[field.name for field in dataclasses.fields(class_)] for class_ in classes]
            carry_out(
                *(
                    class_(**{name: values[name] for name in of_class})
                    for class_, of_class in zip(classes, names, strict=True)
                )
            )

        return click.Command(
            name or carry_out.__name__,
            callback=callback,
            params=options_of(*classes),
            help=about or carry_out.__doc__,
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
