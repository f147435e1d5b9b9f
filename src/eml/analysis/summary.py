"""Numbers: a row for each curve, or for each training of a search."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eml.analysis.curves import Curve, Training, curves, judged_at, trainings_of
from eml.analysis.labels import differing, words
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
    by = differing(history)
    images = evaluated_images([each for curve in drawn for each in curve.trainings])
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
                **{name: curve.values[name] for name in by},
                **_accuracies(curve, images),
                "not_separable_from": _not_separable(curve.label, by_curve[curve.label]),
                "epochs": curve.values["epochs"],
                "train_seconds_per_epoch": own.mean,
                "seconds_lowest": own.lowest,
                "seconds_highest": own.highest,
                "seconds_not_separable_from": "; ".join(alike),
                "parameters": curve.values.get("parameters", math.nan),
                **{k: v for target in targets for k, v in _to_reach(target, curve).items()},
                **_incomplete(curve),
                "run_ids": " ".join(each.run_id for each in curve.trainings),
            }
        )
    return pd.DataFrame(rows)


def _accuracies(curve: Curve, images: int) -> dict[str, float | str]:
    """The columns from n to best_epoch; NaN where no seed is complete, so that no model is left."""
    accuracy = f"{curve.split}_accuracy"
    complete = [each for each in curve.trainings if each.complete]
    scored = [each for each in curve.trainings if not each.unfinished] if complete else []
    none = [math.nan]
    finals = np.array([each.score("last") for each in scored] or none)
    bests = np.array([each.score("best") for each in scored] or none)
    best_epochs = [each.points["epoch"][np.nanargmax(each.accuracies)] for each in complete]
    low, high = interval(finals, images)
    return {
        "n": len(curve.trainings),
        "complete": len(complete),
        f"final_{accuracy}": finals.mean(),
        "final_lowest": finals.min(),
        "final_highest": finals.max(),
        "final_low": low,
        "final_high": high,
        f"best_{accuracy}": bests.mean(),
        "best_epoch": ", ".join(map(str, best_epochs)),
    }


def _incomplete(curve: Curve) -> dict[str, str]:
    """The columns that name the seeds without all epochs."""
    diverged = [
        f"seed {each.values['seed']} in epoch {each.diverged}"
        for each in curve.trainings
        if each.diverged is not None
    ]
    stopped = [
        f"seed {each.values['seed']} after epoch {each.last_epoch}"
        for each in curve.trainings
        if each.unfinished
    ]
    return {"diverged": ", ".join(diverged), "unfinished": ", ".join(stopped)}


def _to_reach(target: float, curve: Curve) -> dict[str, float]:
    """The columns of a target."""
    reached = [(each, _reached(each, target)) for each in curve.trainings]
    touched = [
        each.points["epoch"][np.argmax(each.accuracies >= target)]
        for each in curve.trainings
        if (each.accuracies >= target).any()
    ]

    def median(name: str) -> float:
        values = [math.inf if at is None else each.points[name][at] for each, at in reached]
        return float(np.median(values))

    return {
        f"epochs_to_{target:g}": median("epoch"),
        f"seconds_to_{target:g}": median("train_seconds"),
        f"reached_{target:g}": sum(at is not None for _, at in reached),
        f"first_touch_{target:g}": min(touched, default=math.nan),
    }


def _reached(training: Training, target: float) -> int | None:
    """The place of the first of HELD epochs in a row with an accuracy of at least `target`.

    None if there is none, or if the training has diverged.
    """
    if training.diverged is not None:
        return None
    held = np.convolve(training.accuracies >= target, np.ones(HELD), "valid") == HELD
    return int(np.argmax(held)) if held.any() else None


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
    scores = {each.run_id: each.score(criterion) for each in trainings_of(history)}
    for _, rows in history.drop_duplicates("run_id").groupby(by, dropna=False):
        means = rows["run_id"].map(scores).groupby(rows["learning_rate"]).mean().dropna()
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
    for each in trainings_of(history):
        run_id, accuracies, epochs = each.run_id, each.accuracies, each.points["epoch"]
        there = ~np.isnan(accuracies)
        outcome = "chosen" if run_id in chosen else "tied" if run_id in tied else ""
        if run_id in pruned:
            there &= epochs <= pruned[run_id]
            outcome = f"pruned after epoch {pruned[run_id]}"
        elif each.diverged is not None:
            outcome = f"diverged in epoch {each.diverged}"
        at = judged_at(accuracies[there], criterion)
        rows.append(
            {
                "optimizer": each.values["optimizer"],
                "learning_rate": each.values["learning_rate"],
                "validation_accuracy": accuracies[there][at],
                "in_epoch": epochs[there][at],
                "outcome": outcome,
                "run_id": run_id,
            }
        )
    return pd.DataFrame(rows).sort_values(["optimizer", "learning_rate"], ignore_index=True)
