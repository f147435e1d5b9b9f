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
from eml.errors import CheckError, UserError
from eml.exact.step import ORIENTATION, SHEET, Problem, Value, central_difference, solve
from eml.tracking import log, runs
from eml.tracking.reap import begin

POSSIBLE = "(the network has ReLU in one hidden layer, one output and the loss 1/2n sum (Y - f)^2)"
UNCHECKED = "not checked: a hidden neuron is at ReLU's kink, which has no derivative"
KINDS = ("a number", "a list of numbers", "a list of rows of numbers")  # by the number of axes


def gradients(file: str = "") -> None:
    """Solve the problem, check the gradients, print every line, and log the lines as CSV.

    Raises UserError if the file describes no problem, CheckError if the check fails.
    """
    problem = read_problem(Path(file).resolve()) if file else SHEET
    solution = solve(problem)
    begin(create=True)
    with runs.run("gradients", exact.__doc__ or "", {"recipe": "gradients"}):
        if 1 < len(problem.weights_1) == len(problem.bias_1):  # its transpose fits, too
            print(f"weights_1 has {ORIENTATION}: w1[1,2] = {problem.weights_1[0, 1]}\n")
        for section, lines in groupby(solution.lines, key=lambda line: line.section):
            print(section, *(f"  {line.quantity} = {line.text}" for line in lines), "", sep="\n")
        # The other values are in the table: as metrics they would fill the UI with 70 charts.
        log.log_metrics({"loss": float(solution.loss)})
        with tempfile.TemporaryDirectory() as folder:
            table = pd.DataFrame(solution.lines)
            table["decimal"] = table["value"].map(float)
            table.to_csv(Path(folder, "gradients.csv"), index=False)
            log.log_files(Path(folder))
        if difference := central_difference(problem, solution):
            raise CheckError(f"the gradients differ from central differences by {difference}")
        print("every gradient equals its central difference" if difference == 0 else UNCHECKED)
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
