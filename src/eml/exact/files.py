"""Problems from TOML files, and solutions as text, Markdown and CSV."""

import tomllib
from contextlib import suppress
from dataclasses import fields, replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eml.analysis.tables import markdown
from eml.errors import UserError
from eml.exact.step import SHEET, Problem, Solution

KINDS = ("a number", "a list of numbers", "a list of rows of numbers")  # by the number of axes


def read_problem(file: Path) -> Problem:
    """Return the sheet's problem, with the numbers of a TOML file in place of its own.

    Keys are the fields of Problem; `x` may be a single row. A number may be a string: "1/3".

    Raises UserError for an unknown key, a value that is no number, or shapes that do not fit.
    """
    valid = [field.name for field in fields(Problem)]
    try:
        # Floats as text, so that Fraction gets the exact decimal number.
        values = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=str)
        for key, value in values.items():
            if key not in valid:
                raise UserError(f"no key {key}, give {', '.join(valid)}")
            if key == "x" and isinstance(value, list) and list not in map(type, value):
                value = [value]
            axes = np.ndim(getattr(SHEET, key))
            numbers = _fractions(key, value, axes)
            values[key] = np.array(numbers, object) if axes else numbers
        return replace(SHEET, **values)
    except (OSError, ValueError, UserError) as error:  # ValueError: not TOML, or not text
        raise UserError(f"{file}: {error}") from error


def _fractions(key: str, value: Any, axes: int) -> Any:
    """Return a number, or lists nested `axes` deep, as Fractions."""
    if axes and isinstance(value, list):
        return [_fractions(key, item, axes - 1) for item in value]
    with suppress(ValueError, ZeroDivisionError):
        if not axes:
            return Fraction(str(value))
    raise UserError(f"{key}: {value} is not {KINDS[axes]}")


def text(solution: Solution) -> str:
    """Return all lines of the solution as text, grouped by section."""
    parts = []
    for section, lines in groupby(solution.lines, key=lambda line: line.section):
        parts.append(f"\n{section}")
        for _, quantity, working, value in lines:
            decimal = "" if value.denominator == 1 else f" ({float(value):.6g})"
            # Once where nothing is to be worked out: dL/db2 = 2.
            parts.append(f"  {' = '.join(dict.fromkeys((quantity, working, f'{value}{decimal}')))}")
    return "\n".join(parts).lstrip()


def write_files(solution: Solution, folder: Path) -> None:
    """Write gradients.md and gradients.csv into `folder`."""
    table = pd.DataFrame(
        {"quantity": q, "worked out": w, "exact": str(v), "decimal": float(v), "section": s}
        for s, q, w, v in solution.lines
    )
    table.to_csv(folder / "gradients.csv", index=False)
    parts = ["# One step of gradient descent\n"]
    for section, rows in table.groupby("section", sort=False):
        parts.append(f"## {section}\n\n{markdown(rows.drop(columns='section').to_dict('records'))}")
    (folder / "gradients.md").write_text("\n".join(parts), encoding="utf-8")
