"""Every number of `compare` against the tables of mlflow.db, of random stores with traps."""

import csv

import pytest

from support.commands import run_here
from support.random_runs import written
from support.tables import curves, differing, label, parsed, summary_row

OUTCOMES = ("separable_from", "not_separable_from", "not_judged_against")
# Compared with scipy in test_verdicts.py.
JUDGED = {"final_low", "final_high", *OUTCOMES, *(f"seconds_{name}" for name in OUTCOMES)}


def agree(expected: object, cell: str) -> bool:
    """Whether a cell is the value. "" is a missing number."""
    if isinstance(expected, str):
        return cell == expected
    number = float(cell or "nan")
    return number == pytest.approx(float(expected), rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_summary_is_what_the_tables_give(seed, store, png_only, tmp_path):
    runs = written(store, tmp_path, seed)
    runs["search"] = [run for run in runs["optimizers"] if run.split == "validation"]
    runs["optimizers"] = [run for run in runs["optimizers"] if run.split == "test"]
    for recipe, of in runs.items():
        names = differing(of)
        done = run_here(
            *("compare", "--output", str(tmp_path / recipe)),
            *("--runs", ",".join(run.run_id for run in of)),
        )
        assert done.returncode == 0, done.stderr
        with open(tmp_path / recipe / "summary.csv") as file:
            texts = list(csv.DictReader(file))
        for curve, text in zip(curves(of, names), texts, strict=True):
            row = {name: parsed(curve[0].params[name]) for name in names} | summary_row(curve)
            row["curve"] = label(curve, names) or "all runs"
            row["images"] = min(int(run.params[f"{run.split}_images"]) for run in of)
            assert text.keys() == row.keys() | JUDGED
            for name, expected in row.items():
                assert agree(expected, text[name]), (recipe, name, expected, text[name])
