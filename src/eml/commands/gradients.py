"""The exact step of task 3.1 as text and files."""

from fractions import Fraction
from itertools import groupby
from pathlib import Path

import pandas as pd

from eml.analysis.summary import markdown
from eml.models.exact_gradients import Solution


def text(solution: Solution) -> str:
    """The step as a person would write it down."""
    parts = []
    for section, lines in groupby(solution.lines, key=lambda line: line.section):
        parts.append(f"\n{section}")
        for line in lines:
            parts.append(f"  {line.quantity} = {line.working} = {_shown(line.value)}")
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
