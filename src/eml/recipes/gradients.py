"""The exercise of task 3.1: the sheet's numbers, or those of a TOML file."""

import tomllib
from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from eml.models.exact_gradients import Exercise, ExerciseError, Matrix, Row


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
    """The sheet's exercise with the numbers of a TOML file in place of its own.

    Keys are the fields of Exercise; `x` may be a single row. A number may be a string: "1/3".

    Raises ExerciseError for an unknown key, a value that is no number, or shapes that do not fit.
    """
    if not file.is_file():
        hint = "" if file.is_absolute() else ", give an absolute path"
        raise ExerciseError(f"file={file}: there is no {file.resolve()}{hint}")
    try:
        # Not yet Fraction, which would write 1e999999999 out.
        values = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    # A ValueError: not TOML, or not text; an ArithmeticError: an exponent that no Decimal has.
    except (OSError, ValueError, ArithmeticError, RecursionError) as error:
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


def _exact(key: str, value: object, depth: int) -> Matrix | Row | Fraction:
    """A number (depth 0), a list of numbers (1) or a list of rows (2), in exact fractions."""
    if depth and _is_list(value) and value:
        return tuple(_exact(key, item, depth - 1) for item in value)
    try:
        if depth or isinstance(value, bool):
            raise TypeError
        if isinstance(value, str) and "/" not in value:
            value = Decimal(value)
        if isinstance(value, Decimal) and not -30 <= value.adjusted() <= 30:
            raise OverflowError
        number = Fraction(value)
        if number and not 10**-31 < abs(number) < 10**31:
            raise OverflowError
        return number
    except OverflowError:
        raise ExerciseError(f"{key}: give 0, or numbers from 1e-30 to 1e30") from None
    except (ValueError, TypeError, ArithmeticError):
        kind = ("a number", "a list of numbers", "a list of rows of numbers")[depth]
        raise ExerciseError(f"{key}: {value} is not {kind}") from None
