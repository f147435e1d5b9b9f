"""Tables: a row for each curve, or for each training of a search."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eml.analysis.curves import (
    Curve,
    curves,
    differing,
    diverged_epoch,
    ended,
    evaluated,
    score,
    unfinished,
    words,
)
from eml.analysis.options import CRITERIA
from eml.analysis.verdicts import Verdict, evaluated_images, interval, verdicts

HELD = 3  # epochs in a row that must have a target accuracy


def summary(
    history: pd.DataFrame, targets: Sequence[float] = (), criterion: str = CRITERIA[0]
) -> pd.DataFrame:
    """A row for each curve: the fields that differ, and what its seeds have reached.

    n: number of seeds, of which `complete` have all epochs; the others are named in `diverged` and
    `unfinished`. A diverged seed counts as chance in the accuracies and as a miss of each target.
    final_low, final_high: the 95 % interval (verdicts.interval). not_separable_from: the curves
    without a verdict against this one, by `criterion`. For each target: the number of seeds that
    reached and held it (HELD), the median of the epochs and train_seconds until then, in which a
    miss is infinite, and the first epoch in which any seed touched it.
    """
    by, accuracy = differing(history), f"{evaluated(history)}_accuracy"
    drawn = curves(history)
    seconds = [epoch_seconds(curve) for curve in drawn]
    images = evaluated_images(history)
    rows = []
    for curve, durations in zip(drawn, seconds, strict=True):
        complete = [run for run in curve.runs if ended(run)]
        finals = [s for run in curve.runs if not math.isnan(s := score(run, "last"))]
        best = [run.loc[run[accuracy].idxmax()] for run in complete]
        low, high = interval(finals, images) if complete else (math.nan, math.nan)
        row = {
            "curve": curve.label or "all runs",
            **{name: curve.runs[0][name].iloc[0] for name in by},
            "n": len(curve.runs),
            "complete": len(complete),
            f"final_{accuracy}": _mean(finals) if complete else math.nan,
            "final_lowest": min(finals) if complete else math.nan,
            "final_highest": max(finals) if complete else math.nan,
            "final_low": low,
            "final_high": high,
            f"best_{accuracy}": _mean(score(run, "best") for run in curve.runs)
            if complete
            else math.nan,
            "best_epoch": ", ".join(str(b["epoch"]) for b in best),
            "epochs": curve.runs[0]["epochs"].iloc[0],
            "train_seconds_per_epoch": durations.mean(),
            "seconds_lowest": _lowest(durations),
            "seconds_highest": _highest(durations),
            "seconds_not_separable_from": "; ".join(
                other.label
                for other, theirs in zip(drawn, seconds, strict=True)
                if other is not curve and _overlap(durations, theirs)
            ),
            "parameters": _parameters(curve),
        }
        for target in targets:
            row |= _to_reach(target, curve, accuracy)
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
    pairs = verdicts(history, criterion)
    table.insert(
        table.columns.get_loc("epochs"),
        "not_separable_from",
        [_not_separable(curve.label, pairs) for curve in drawn],
    )
    return table


def _mean(values: Iterable[float]) -> float:
    return pd.Series(list(values), dtype=float).mean()


def epoch_seconds(curve: Curve) -> pd.Series:
    """The training seconds of every epoch of every run of a curve."""
    return pd.concat([seconds_of_epochs(run) for run in curve.runs])


def seconds_of_epochs(run: pd.DataFrame) -> pd.Series:
    """The training seconds of each epoch of a run, without epoch 0."""
    return run["train_seconds"].diff().iloc[1:].dropna()


def _lowest(durations: pd.Series) -> float:
    """The lowest duration, but for a tenth of them, so that one odd epoch decides nothing."""
    return float(durations.quantile(0.1, interpolation="lower"))


def _highest(durations: pd.Series) -> float:
    return float(durations.quantile(0.9, interpolation="higher"))


def _overlap(some: pd.Series, others: pd.Series) -> bool:
    """Whether durations are too alike to call one of the curves faster."""
    if some.empty or others.empty:
        return False
    return _lowest(some) <= _highest(others) and _lowest(others) <= _highest(some)


def _to_reach(target: float, curve: Curve, accuracy: str) -> dict[str, float]:
    """The columns of a target."""
    firsts = [_reached(run, accuracy, target) for run in curve.runs]
    reached = [first for first in firsts if first is not None]
    touched = curve.rows[curve.rows[accuracy] >= target]

    def median(name: str) -> float:
        values = [first[name] for first in reached]
        return float(np.median([*values, *[math.inf] * (len(firsts) - len(values))]))

    return {
        f"epochs_to_{target:g}": median("epoch"),
        f"seconds_to_{target:g}": median("train_seconds"),
        f"reached_{target:g}": len(reached),
        f"first_touch_{target:g}": touched["epoch"].min(),
    }


def _reached(run: pd.DataFrame, accuracy: str, target: float) -> pd.Series | None:
    """The first of HELD epochs in a row whose accuracy is at least `target`; None if there is none.

    A diverged run has not reached it.
    """
    if diverged_epoch(run) is not None:
        return None
    held = (run[accuracy] >= target)[::-1].rolling(HELD).sum()[::-1] == HELD
    return run[held].iloc[0] if held.any() else None


def _parameters(curve: Curve) -> float | int:
    first = curve.runs[0].iloc[0]
    return first["parameters"] if "parameters" in first else float("nan")


def _not_separable(label: str, pairs: Sequence[Verdict]) -> str:
    """The curves that this one is not separable from; a word if there are too few seeds for any."""
    own = [pair for pair in pairs if label in (pair.curve, pair.other)]
    if own and not any(pair.decided for pair in own):
        return f"n = {max(pair.n for pair in own)}: too few seeds to tell"
    others = [pair.other if pair.curve == label else pair.curve for pair in own]
    undecided = [
        o for o, pair in zip(others, own, strict=True) if pair.decided and not pair.separable
    ]
    return "; ".join(undecided)


def by_rate(history: pd.DataFrame, criterion: str = CRITERIA[0]) -> dict[str, pd.Series]:
    """By optimizer: the score (curves.score), mean over seeds, by ascending learning rate.

    Groups also by every other field that differs. Leaves out groups with one learning rate, and
    unfinished runs.
    """
    by = [name for name in differing(history) if name != "learning_rate"] or ["optimizer"]
    found = {}
    for _, rows in history.groupby(by, sort=True, dropna=False):
        scores = pd.Series(
            [score(run, criterion) for _, run in rows.groupby("run_id", sort=False)],
            index=rows.groupby("run_id", sort=False)["learning_rate"].first(),
        )
        means = scores.dropna().groupby(level=0).mean()
        if len(means) > 1:
            found[", ".join(words(name, rows[name].iloc[0]) for name in by)] = means
    return found


@dataclass(frozen=True)
class Outcomes:
    """What a search has decided, by run id."""

    chosen: Collection[str] = ()
    tied: Collection[str] = ()  # not worse than the best beyond chance
    pruned: Mapping[str, int] = field(default_factory=dict)  # the epoch after which it stopped


def tried(history: pd.DataFrame, outcomes: Outcomes, criterion: str = CRITERIA[0]) -> pd.DataFrame:
    """A row for each training of a search, with its accuracy by `criterion` and its outcome.

    Epochs after the pruning, which a run finished earlier has, do not count.
    """
    chosen, tied, pruned = outcomes.chosen, outcomes.tied, outcomes.pruned
    rows = []
    for run_id, run in history.groupby("run_id", sort=False):
        outcome = "chosen" if run_id in chosen else "tied" if run_id in tied else ""
        if run_id in pruned:
            run = run[run["epoch"] <= pruned[run_id]]
            outcome = f"pruned after epoch {pruned[run_id]}"
        elif (epoch := diverged_epoch(run)) is not None:
            outcome = f"diverged in epoch {epoch}"
        accuracies = run.set_index("epoch")["validation_accuracy"].dropna()
        epoch = accuracies.index[-1] if criterion == "last" else accuracies.idxmax()
        rows.append(
            {
                "optimizer": run["optimizer"].iloc[0],
                "learning_rate": run["learning_rate"].iloc[0],
                "validation_accuracy": accuracies[epoch],
                "in_epoch": epoch,
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
