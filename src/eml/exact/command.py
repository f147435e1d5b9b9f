"""Solves the problem of the sheet or of a file, and prints and logs the solution."""

import tempfile
import tomllib
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eml import exact
from eml.analysis.tables import markdown
from eml.errors import UserError
from eml.exact.step import ORIENTATION, SHEET, Problem, Solution, Value, check, solve
from eml.tracking import log, runs
from eml.tracking.reap import begin

POSSIBLE = "(the network has ReLU in one hidden layer, one output and the loss 1/2n sum (Y - f)^2)"
KINDS = ("a number", "a list of numbers", "a list of rows of numbers")  # by the number of axes


def gradients(file: str = "", autograd: bool = False) -> None:
    """Solve the problem, print every line, and log all values as Markdown and CSV.

    Raises UserError if the file describes no problem, CheckError if a check fails.
    """
    problem = read_problem(Path(file).resolve()) if file else SHEET
    solution = solve(problem)
    begin(create=True)
    with runs.run("gradients", exact.__doc__ or "", {"recipe": "gradients"}):
        if 1 < len(problem.weights_1) == len(problem.bias_1):  # its transpose fits, too
            print(f"weights_1 has {ORIENTATION}: w1[1,2] = {problem.weights_1[0, 1]}\n")
        print(text(solution))
        # The other values are in the table: as metrics they would fill the UI with 70 charts.
        log.log_metrics({"loss": float(solution.loss)})
        with tempfile.TemporaryDirectory() as folder:
            write_files(solution, Path(folder))
            log.log_files(Path(folder))
        differences = check(problem, solution, autograd)
        log.log_metrics(differences)
        for name, value in differences.items():
            print(f"{name.replace('_', ' ')}, largest: {value:g}")
        if not differences:
            print("a check is left out: a hidden neuron is at ReLU's kink, which has no derivative")
        print(runs.where())


def read_problem(file: Path) -> Problem:
    """Return the sheet's problem, with the numbers of a TOML file in place of its own.

    Keys are the fields of Problem; `x` may be a single row. A number may be a string: "1/3".

    Raises UserError for an unknown key, a value that is no number, or shapes that do not fit.
    """
    try:
        # Floats as text, so that Fraction gets the exact decimal number.
        values = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=str)
        if unknown := values.keys() - vars(SHEET):
            raise UserError(f"key={min(unknown)}: give one of {', '.join(vars(SHEET))} {POSSIBLE}")
        return replace(SHEET, **{key: _fractions(key, value) for key, value in values.items()})
    except (OSError, ValueError, UserError) as error:  # ValueError: not TOML, or not text
        raise UserError(f"{file}: {error}") from error


def _fractions(key: str, value: Any) -> Value:
    axes = np.ndim(getattr(SHEET, key))
    with suppress(ValueError, ZeroDivisionError):
        texts = np.array(value, str, ndmin=2 if key == "x" else 0)
        if texts.ndim == axes:
            return np.vectorize(Fraction, otypes=[object])(texts)[()]
    raise UserError(f"{key}={value}: give {KINDS[axes]} {POSSIBLE}")


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
