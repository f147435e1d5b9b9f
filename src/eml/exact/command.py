"""One step of gradient descent by hand: the 5-3-1 ReLU network.

Every value is worked out in exact fractions, printed step by step, logged as Markdown and CSV, and
compared with central differences in exact fractions, where no step is too small.

Source: sheet 3, task 3.1.
"""

import re
import tempfile
import tomllib
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from eml.errors import UserError
from eml.exact.check import check
from eml.exact.step import SHEET, Problem, Solution, solve

# The command line imports this module for its options: what takes long to import comes later.

ABOUT = __doc__ or ""
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


def gradients(options: Options) -> None:
    """Solve the problem, print every line, and log all values as Markdown and CSV.

    Raises UserError if the file describes no problem, CheckError if a check fails.
    """
    problem = read_problem(Path(options.file)) if options.file else SHEET
    solution = solve(problem)
    try:
        values = solution.numbers()
    except OverflowError as error:
        raise UserError("an intermediate value is too large: give smaller numbers") from error
    from eml.tracking import log, runs
    from eml.tracking.reap import begin

    begin(create=True)
    with runs.run("gradients", ABOUT, {"recipe": "gradients"}):
        print(text(solution))
        # The other values are in the table: as metrics they would fill the UI with 70 charts.
        log.log_metrics({"loss": values["L"]})
        with tempfile.TemporaryDirectory() as folder:
            write_files(solution, Path(folder))
            log.log_files(Path(folder))
        differences = check(problem, solution, options.autograd)
        log.log_metrics(differences)
        for name, value in differences.items():
            print(f"{name.replace('_', ' ')}, largest: {value:g}")
        if len(differences) < 1 + options.autograd:
            print("a check is left out: a hidden neuron is at ReLU's kink, which has no derivative")
        print(runs.where())


def read_problem(file: Path) -> Problem:
    """The sheet's problem, with the numbers of a TOML file replacing its own.

    Keys are the fields of Problem; `x` may be a single row. A number may be a string: "1/3".

    Raises UserError for an unknown key, a value that is no number, or shapes that do not fit.
    """
    if not file.is_file():
        hint = "" if file.is_absolute() else ", give an absolute path"
        raise UserError(f"file={file}: there is no {file.resolve()}{hint}")
    try:
        # Floats as text, so that Fraction gets the exact decimal number.
        values = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not TOML, or not text
        raise UserError(f"{file} cannot be read: {error}") from error
    valid = [field.name for field in fields(Problem)]
    try:
        for key, value in values.items():
            if key not in valid:
                raise UserError(f"no key {key}, give {', '.join(valid)}")
            depth = {"x": 2, "weights_1": 2, "bias_2": 0, "learning_rate": 0}.get(key, 1)
            if key == "x" and isinstance(value, list) and list not in map(type, value):
                value = [value]
            values[key] = _exact(key, value, depth)
        return replace(SHEET, **values)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _exact(key: str, value: Any, depth: int) -> Any:
    """A number (depth 0), a list of numbers (1) or a list of rows (2), in exact fractions."""
    if depth and isinstance(value, list) and value:
        return tuple(_exact(key, item, depth - 1) for item in value)
    kind = ("a number", "a list of numbers", "a list of rows of numbers")[depth]
    if depth or isinstance(value, bool) or not NUMBER.fullmatch(str(value)):
        raise UserError(
            f"{key}: {value} is not {kind} with at most {DIGITS} digits and an exponent below 100"
        )
    try:
        return Fraction(str(value))
    except ZeroDivisionError:
        raise UserError(f"{key}: {value} divides by zero") from None


def text(solution: Solution) -> str:
    """All lines of the solution as text, grouped by section."""
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
    import pandas as pd

    from eml.analysis.tables import markdown

    table = pd.DataFrame(
        {
            "quantity": quantity,
            "worked out": working,
            "exact": str(value),
            "decimal": float(value),
            "section": section,
        }
        for section, quantity, working, value in solution.lines
    )
    table.to_csv(folder / "gradients.csv", index=False)
    parts = ["# One step of gradient descent\n"]
    for section, rows in table.groupby("section", sort=False):
        parts.append(f"## {section}\n\n{markdown(rows.drop(columns='section').to_dict('records'))}")
    (folder / "gradients.md").write_text("\n".join(parts), encoding="utf-8")
