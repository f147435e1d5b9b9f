"""One step of gradient descent by hand: the 5-3-1 ReLU network.

Every value is worked out in exact fractions, printed step by step, logged as Markdown and CSV, and
compared with central differences in exact fractions, where no step is too small.

Source: sheet 3, task 3.1.
"""

import re
import tomllib
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from eml.models.exact_gradients import Exercise, ExerciseError, Row

ABOUT = __doc__
DIGITS = 30
# 12, -0.5, 1e-3, "1/3". Without bounds a short text could become a number of gigabytes.
NUMBER = re.compile(
    rf"[+-]?(\d{{1,{DIGITS}}}(\.\d{{1,{DIGITS}}})?(e[+-]?\d{{1,2}})?|"
    rf"\d{{1,{DIGITS}}}/\d{{1,{DIGITS}}})",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the exact step."""

    file: Annotated[
        str, "TOML file with numbers in place of the sheet's; an absolute path for `mlflow run`"
    ] = ""
    autograd: Annotated[
        bool, "compare with PyTorch's automatic differentiation, too, which takes seconds to load"
    ] = False


def _row(*numbers: int | str) -> Row:
    return tuple(map(Fraction, numbers))


SHEET = Exercise(
    x=(_row(1, -1, 0, -2, 2),),
    y=_row("-1.75"),
    weights_1=(
        _row(1, -1, "0.5"),
        _row("0.5", 1, 1),
        _row(1, -1, "0.5"),
        _row("0.5", -1, 0),
        _row(1, -3, 1),
    ),
    bias_1=_row(1, 2, 3),
    weights_2=_row(1, "0.5", "-0.5"),
    bias_2=Fraction(0),
    learning_rate=Fraction("0.1"),
)


def read_exercise(file: Path) -> Exercise:
    """The sheet's exercise, with the numbers of a TOML file replacing its own.

    Keys are the fields of Exercise; `x` may be a single row. A number may be a string: "1/3".

    Raises ExerciseError for an unknown key, a value that is no number, or shapes that do not fit.
    """
    if not file.is_file():
        hint = "" if file.is_absolute() else ", give an absolute path"
        raise ExerciseError(f"file={file}: there is no {file.resolve()}{hint}")
    try:
        # Floats as text, so that Fraction gets the exact decimal number.
        values = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not TOML, or not text
        raise ExerciseError(f"{file} cannot be read: {error}") from error
    valid = [field.name for field in fields(Exercise)]
    try:
        for key, value in values.items():
            if key not in valid:
                raise ExerciseError(f"no key {key}, give {', '.join(valid)}")
            depth = {"x": 2, "weights_1": 2, "bias_2": 0, "learning_rate": 0}.get(key, 1)
            if key == "x" and _is_list(value) and not any(map(_is_list, value)):
                value = [value]
            values[key] = _exact(key, value, depth)
        return replace(SHEET, **values)
    except ExerciseError as error:
        raise ExerciseError(f"{file}: {error}") from None


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _exact(key: str, value: Any, depth: int) -> Any:
    """A number (depth 0), a list of numbers (1) or a list of rows (2), in exact fractions."""
    if depth and _is_list(value) and value:
        return tuple(_exact(key, item, depth - 1) for item in value)
    kind = ("a number", "a list of numbers", "a list of rows of numbers")[depth]
    if depth or isinstance(value, bool) or not NUMBER.fullmatch(str(value)):
        raise ExerciseError(
            f"{key}: {value} is not {kind} with at most {DIGITS} digits and an exponent below 100"
        )
    try:
        return Fraction(str(value))
    except ZeroDivisionError:
        raise ExerciseError(f"{key}: {value} divides by zero") from None
