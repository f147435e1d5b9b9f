"""Numbers: a row for each curve, or for each training of a search."""

import math
from collections.abc import Collection, Mapping, Sequence
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
    judged_at,
    score,
    unfinished,
    words,
)
from eml.analysis.options import CRITERIA, HELD
from eml.analysis.seconds import epoch_seconds
from eml.analysis.verdicts import Verdict, evaluated_images, interval, verdicts


def summary(
    history: pd.DataFrame,
    targets: Sequence[float] = (),
    pairs: Sequence[Verdict] | None = None,
) -> pd.DataFrame:
    """A row for each curve: the fields that differ, and what its seeds have reached.

    n: number of seeds, of which `complete` have all epochs; the others are named in `diverged` and
    `unfinished`. A diverged seed counts as chance in the accuracies and as a miss of each target.
    final_low, final_high: the 95 % interval (verdicts.interval). not_separable_from: the curves
    without a verdict against this one, by `pairs` (verdicts.verdicts; those by the last epoch if
    not given). For each target: the number of seeds that reached and held it (HELD), the median of
    the epochs and train_seconds until then, in which a miss is infinite, and the first epoch in
    which any seed touched it.
    """
    drawn = curves(history)
    by_curve: dict[str, list[Verdict]] = {curve.label: [] for curve in drawn}
    for verdict in verdicts(history, CRITERIA[0]) if pairs is None else pairs:
        for label in (verdict.curve, verdict.other):
            by_curve[label].append(verdict)
    seconds = [epoch_seconds(curve) for curve in drawn]
    by, images = differing(history), evaluated_images(history)
    rows = []
    for curve, own in zip(drawn, seconds, strict=True):
        alike = [
            other.label
            for other, theirs in zip(drawn, seconds, strict=True)
            if other is not curve and own.overlaps(theirs)
        ]
        rows.append(
            {
                "curve": curve.label or "all runs",
                **{name: curve.runs[0][name].iloc[0] for name in by},
                **_accuracies(curve, images),
                "not_separable_from": _not_separable(curve.label, by_curve[curve.label]),
                "epochs": curve.runs[0]["epochs"].iloc[0],
                "train_seconds_per_epoch": own.mean,
                "seconds_lowest": own.lowest,
                "seconds_highest": own.highest,
                "seconds_not_separable_from": "; ".join(alike),
                "parameters": _parameters(curve),
                **{k: v for target in targets for k, v in _to_reach(target, curve).items()},
                **_incomplete(curve),
                "run_ids": " ".join(run["run_id"].iloc[0] for run in curve.runs),
            }
        )
    return pd.DataFrame(rows)


def _accuracies(curve: Curve, images: int) -> dict[str, float | str]:
    """The columns from n to best_epoch; NaN where no seed is complete, so that no model is left."""
    accuracy = f"{evaluated(curve.rows)}_accuracy"
    complete = [run for run in curve.runs if ended(run)]
    scored = [run for run in curve.runs if not unfinished(run)] if complete else []
    finals = pd.Series([score(run, "last") for run in scored], dtype=float)
    low, high = interval(finals, images)
    return {
        "n": len(curve.runs),
        "complete": len(complete),
        f"final_{accuracy}": finals.mean(),
        "final_lowest": finals.min(),
        "final_highest": finals.max(),
        "final_low": low,
        "final_high": high,
        f"best_{accuracy}": pd.Series([score(r, "best") for r in scored], dtype=float).mean(),
        "best_epoch": ", ".join(str(run.loc[run[accuracy].idxmax(), "epoch"]) for run in complete),
    }


def _incomplete(curve: Curve) -> dict[str, str]:
    """The columns that name the seeds without all epochs."""
    diverged = [
        f"seed {run['seed'].iloc[0]} in epoch {epoch}"
        for run in curve.runs
        if (epoch := diverged_epoch(run)) is not None
    ]
    stopped = [
        f"seed {run['seed'].iloc[0]} after epoch {run['epoch'].iloc[-1]}"
        for run in curve.runs
        if unfinished(run)
    ]
    return {"diverged": ", ".join(diverged), "unfinished": ", ".join(stopped)}


def _to_reach(target: float, curve: Curve) -> dict[str, float]:
    """The columns of a target."""
    accuracy = f"{evaluated(curve.rows)}_accuracy"
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


def _not_separable(label: str, own: Sequence[Verdict]) -> str:
    """The curves that this one is not separable from; a word if there are too few seeds for any."""
    if own and not any(pair.decided for pair in own):
        return f"n = {max(pair.n for pair in own)}: too few seeds to tell"
    undecided = [pair for pair in own if pair.decided and not pair.separable]
    return "; ".join(pair.other if pair.curve == label else pair.curve for pair in undecided)


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
        epoch = judged_at(accuracies, criterion)
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
