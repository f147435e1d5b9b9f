"""The `gradients` command: the exact step of task 3.1, printed, checked and logged."""

import tempfile
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import pandas as pd

from eml.analysis.tables import markdown
from eml.models.exact_check import check, metrics
from eml.models.exact_gradients import ExerciseError, Solution, solve
from eml.recipes.gradients import ABOUT, SHEET, Options, read_exercise
from eml.tracking import log, runs
from eml.tracking.reap import begin


def gradients(options: Options) -> None:
    """Solve the exercise, print every line, and log all values as Markdown and CSV.

    Raises ExerciseError if the file describes no exercise, CheckError if a check fails.
    """
    exercise = read_exercise(Path(options.file)) if options.file else SHEET
    solution = solve(exercise)
    try:
        values = metrics(solution)
    except OverflowError as error:
        raise ExerciseError("an intermediate value is too large: give smaller numbers") from error
    begin(create=True)
    with runs.run("gradients", ABOUT, {"recipe": "gradients"}):
        print(text(solution))
        # The other values are in the table: as metrics they would fill the UI with 70 charts.
        log.log_metrics({"loss": values["L"]})
        with tempfile.TemporaryDirectory() as folder:
            write_files(solution, Path(folder))
            log.log_files(Path(folder))
        differences = check(exercise, solution, options.autograd)
        log.log_metrics(differences)
        for name, value in differences.items():
            print(f"{name.replace('_', ' ')}, largest: {value:g}")
        if len(differences) < 1 + options.autograd:
            print("a check is left out: a hidden neuron is at ReLU's kink, which has no derivative")
        print(runs.where())


def text(solution: Solution) -> str:
    """All lines of the solution as text, grouped by section."""
    parts = []
    for section, lines in groupby(solution.lines, key=lambda line: line.section):
        parts.append(f"\n{section}")
        for line in lines:
            # Once where nothing is to be worked out: dL/db2 = 2.
            steps = dict.fromkeys((line.quantity, line.working, _shown(line.value)))
            parts.append(f"  {' = '.join(steps)}")
    return "\n".join(parts).lstrip()


def write_files(solution: Solution, folder: Path) -> None:
    """Write gradients.md and gradients.csv into `folder`."""
    table = pd.DataFrame(
        {
            "quantity": line.quantity,
            "worked out": line.working,
            "exact": str(line.value),
            "decimal": float(line.value),
            "section": line.section,
        }
        for line in solution.lines
    )
    table.to_csv(folder / "gradients.csv", index=False)
    parts = ["# One step of gradient descent\n"]
    for section, rows in table.groupby("section", sort=False):
        parts.append(f"## {section}\n\n{markdown(rows.drop(columns='section'))}")
    (folder / "gradients.md").write_text("\n".join(parts), encoding="utf-8")


def _shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{value} ({float(value):.6g})"
