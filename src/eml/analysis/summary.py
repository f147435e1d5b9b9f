"""Tables: a row for each curve, or for each training of a search."""

import re
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from eml.analysis.curves import (
    Curve,
    curves,
    differing,
    diverged_epoch,
    ended,
    evaluated,
    unfinished,
    words,
)


def summary(history: pd.DataFrame, targets: Sequence[float] = ()) -> pd.DataFrame:
    """A row for each curve: the fields that differ, and mean, lowest and highest over its seeds.

    n: number of complete runs, from which all numbers come. not_separable_from: curves of several
    seeds whose range of final accuracies overlaps with the range of this curve. For each target:
    the number of runs that reached it, and mean epochs and train_seconds if all n reached it.
    """
    by, accuracy = differing(history), f"{evaluated(history)}_accuracy"
    rows = []
    for curve in curves(history):
        counted = [run for run in curve.runs if ended(run)]
        finals = pd.Series([run[accuracy].iloc[-1] for run in counted], dtype=float)
        best = [run.loc[run[accuracy].idxmax()] for run in counted]
        row = {
            "curve": curve.label or "all runs",
            **{name: curve.runs[0][name].iloc[0] for name in by},
            "n": len(counted),
            f"final_{accuracy}": finals.mean(),
            "final_lowest": finals.min(),
            "final_highest": finals.max(),
            f"best_{accuracy}": _mean(b[accuracy] for b in best),
            "best_epoch": ", ".join(str(b["epoch"]) for b in best),
            "epochs": curve.runs[0]["epochs"].iloc[0],
            "train_seconds_per_epoch": _mean(
                run["train_seconds"].iloc[-1] / run["epoch"].iloc[-1] for run in counted
            ),
            "parameters": _parameters(curve),
        }
        for target in targets:
            reached = [
                first for run in counted if (first := _reached(run, accuracy, target)) is not None
            ]
            complete = reached if counted and len(reached) == len(counted) else []
            row[f"epochs_to_{target:g}"] = _mean(first["epoch"] for first in complete)
            row[f"seconds_to_{target:g}"] = _mean(first["train_seconds"] for first in complete)
            row[f"reached_{target:g}"] = len(reached)
        row["diverged"] = ", ".join(
            f"seed {run['seed'].iloc[0]} in epoch {epoch}"
            for run in curve.runs
            if (epoch := diverged_epoch(run)) is not None
        )
        row["unfinished"] = ", ".join(
            f"seed {run['seed'].iloc[0]} after epoch {run['epoch'].iloc[-1]}"
            for run in curve.runs
            if unfinished(run)
        )
        row["run_ids"] = " ".join(run["run_id"].iloc[0] for run in curve.runs)
        rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("epochs"), "not_separable_from", _not_separable(table))
    return table


def _mean(values) -> float:
    return pd.Series(list(values), dtype=float).mean()


def _reached(run: pd.DataFrame, accuracy: str, target: float) -> pd.Series | None:
    """The first epoch of a run in which the metric `accuracy` is at least `target`."""
    reached = run[run[accuracy] >= target]
    return None if reached.empty else reached.iloc[0]


def _parameters(curve: Curve) -> float | int:
    first = curve.runs[0].iloc[0]
    return first["parameters"] if "parameters" in first else float("nan")


def _not_separable(table: pd.DataFrame) -> list[str]:
    """For each curve, the curves whose range of final accuracies overlaps with its own."""
    several = table[table["n"] > 1]
    return [
        "; ".join(
            other.curve
            for other in several.itertuples()
            if row.n > 1
            and other.Index != row.Index
            and other.final_lowest <= row.final_highest
            and row.final_lowest <= other.final_highest
        )
        for row in table.itertuples()
    ]


def best_by_rate(history: pd.DataFrame) -> dict[str, pd.Series]:
    """By optimizer: the best accuracy of any epoch, mean over runs, by ascending learning rate.

    Groups also by every other field that differs. Leaves out groups with one learning rate.
    Unfinished runs do not count; a diverged run counts as 0, because its rate has failed.
    """
    by = [name for name in differing(history) if name != "learning_rate"] or ["optimizer"]
    found, accuracy = {}, f"{evaluated(history)}_accuracy"
    for _, rows in history.groupby(by, sort=True, dropna=False):
        best = pd.DataFrame(
            (
                run["learning_rate"].iloc[0],
                run[accuracy].max() if diverged_epoch(run) is None else 0.0,
            )
            for _, run in rows.groupby("run_id")
            if not unfinished(run)
        )
        if not best.empty and best[0].nunique() > 1:
            label = ", ".join(words(name, rows[name].iloc[0]) for name in by)
            found[label] = best.groupby(0)[1].mean()
    return found


def tried(
    history: pd.DataFrame, chosen: Collection[str], pruned: Mapping[str, int]
) -> pd.DataFrame:
    """A row for each training of a search, with its best accuracy and its outcome.

    chosen: run ids. pruned: by run id, the epoch after which the search gave the training up; later
    epochs, which a run finished earlier has, do not count.
    """
    rows = []
    for run_id, run in history.groupby("run_id", sort=False):
        outcome = "chosen" if run_id in chosen else ""
        if run_id in pruned:
            run = run[run["epoch"] <= pruned[run_id]]
            outcome = f"pruned after epoch {pruned[run_id]}"
        elif (epoch := diverged_epoch(run)) is not None:
            outcome = f"diverged in epoch {epoch}"
        accuracies = run.set_index("epoch")["validation_accuracy"]
        rows.append(
            {
                "optimizer": run["optimizer"].iloc[0],
                "learning_rate": run["learning_rate"].iloc[0],
                "best_validation_accuracy": accuracies.max(),
                "in_epoch": accuracies.idxmax(),
                "outcome": outcome,
                "run_id": run_id,
            }
        )
    return pd.DataFrame(rows).sort_values(["optimizer", "learning_rate"], ignore_index=True)


def readable(table: pd.DataFrame, targets: Sequence[float] = ()) -> pd.DataFrame:
    """The summary for people: per cent, a range in one column, missed targets in words."""
    rows = []
    split = "test" if "final_test_accuracy" in table else "validation"
    for row in table.to_dict("records"):
        spread = ""
        if row["n"] > 1:
            spread = f" ({row['final_lowest']:.2%} to {row['final_highest']:.2%})"
        said = {
            "curve": row["curve"],
            "n": str(row["n"]),
            f"final {split} accuracy": _per_cent(row[f"final_{split}_accuracy"]) + spread,
            "not separable from": row["not_separable_from"],
            "best": _per_cent(row[f"best_{split}_accuracy"]),
            "in epoch": row["best_epoch"],
            "train s/epoch": _digits(row["train_seconds_per_epoch"]),
            "parameters": "" if pd.isna(row["parameters"]) else f"{row['parameters']:,.0f}",
        }
        for target in targets:
            said[f"to {target:.4g}"] = _to_target(row, target)
        said["diverged"], said["unfinished"] = row["diverged"], row["unfinished"]
        rows.append(said)
    shown = pd.DataFrame(rows)
    # Leave out columns that are empty in every row.
    return shown[[name for name in shown if (shown[name] != "").any()]]


def _to_target(row: dict, target: float) -> str:
    reached, n = row[f"reached_{target:g}"], row["n"]
    if n and reached == n:
        return f"epoch {row[f'epochs_to_{target:g}']:.3g}, {row[f'seconds_to_{target:g}']:.4g} s"
    if not reached:
        return f"not reached in {row['epochs']}"
    return f"{reached} of {n} seeds in {row['epochs']}"


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
