"""Tables for people: the summary in words and per cent, and Markdown."""

import math
import re
from collections.abc import Sequence

import pandas as pd

from eml.analysis.options import HELD


def readable(table: pd.DataFrame, targets: Sequence[float] = ()) -> pd.DataFrame:
    """The summary for people: per cent, a range in one column, missed targets in words."""
    rows = []
    split = "test" if "final_test_accuracy" in table else "validation"
    for row in table.to_dict("records"):
        spread = ""
        if row["n"] > 1 and row["complete"]:
            spread = f" ({row['final_lowest']:.2%} to {row['final_highest']:.2%})"
        said = {
            "curve": row["curve"],
            "n": _seeds(row),
            f"final {split} accuracy": _per_cent(row[f"final_{split}_accuracy"]) + spread,
            "95 % interval": _interval(row),
            "not separable from": _shortened(row["not_separable_from"], table),
            "best": _per_cent(row[f"best_{split}_accuracy"]),
            "in epoch": row["best_epoch"],
            "train s/epoch": _seconds(row),
            "seconds not separable from": _shortened(row["seconds_not_separable_from"], table),
            "parameters": "" if pd.isna(row["parameters"]) else f"{row['parameters']:,.0f}",
        }
        for target in targets:
            said[f"to {target:.4g}"] = _to_target(row, target)
        said["diverged"], said["unfinished"] = row["diverged"], row["unfinished"]
        rows.append(said)
    shown = pd.DataFrame(rows)
    # Leave out columns that are empty in every row.
    return shown[[name for name in shown if (shown[name] != "").any()]]


def _seeds(row: dict) -> str:
    """ "5", or "2 of 5 (3 diverged)"."""
    if row["complete"] == row["n"]:
        return str(row["n"])
    others = {name: row[name].count("seed ") for name in ("diverged", "unfinished")}
    why = ", ".join(f"{count} {name}" for name, count in others.items() if count)
    return f"{row['complete']} of {row['n']} ({why or 'without an accuracy'})"


def _shortened(labels: str, table: pd.DataFrame) -> str:
    """ "all others" in place of the labels of three or more curves, if that is what they are."""
    return "all others" if labels.count("; ") + 2 == len(table) > 3 else labels


def _interval(row: dict) -> str:
    if math.isnan(row["final_low"]):
        return "too few seeds" if row["n"] > 1 else ""
    kind = " (test set alone)" if row["n"] == 1 else ""
    return f"{row['final_low']:.2%} to {row['final_high']:.2%}{kind}"


def _seconds(row: dict) -> str:
    mean, low, high = (
        _digits(row[name])
        for name in ("train_seconds_per_epoch", "seconds_lowest", "seconds_highest")
    )
    return mean if low == high else f"{mean} ({low} to {high})"


def _to_target(row: dict, target: float) -> str:
    reached, n = row[f"reached_{target:g}"], row["n"]
    epochs, seconds = row[f"epochs_to_{target:g}"], row[f"seconds_to_{target:g}"]
    when = f"epoch {epochs:.3g}, {seconds:.4g} s"
    if not reached:
        touch = row[f"first_touch_{target:g}"]
        if math.isnan(touch):
            return f"not reached in {row['epochs']}"
        return f"not held for {HELD} epochs, first touch in epoch {touch:g}"
    if reached == n:
        return when if n == 1 else f"median: {when}"
    of = f"{reached} of {n} seeds"
    return f"{of}, median: {when}" if math.isfinite(epochs) else of


def _per_cent(fraction: float) -> str:
    return "" if pd.isna(fraction) else f"{fraction:.2%}"


def _digits(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown with aligned columns."""
    rows = [[_cell(cell) for cell in row] for row in (table.columns, *table.values)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "".join(f"| {line} |\n" for line in lines)


def _cell(value: object) -> str:
    """The value in one line, with each "|" and the backslashes before it escaped."""
    return re.sub(r"(\\*)\|", r"\1\1\|", " ".join(str(value).splitlines()))
