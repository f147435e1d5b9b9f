"""Numbers: a row for each curve, or for each training of a search."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Curve, Seconds, Training
from eml.analysis.labels import acts, words
from eml.analysis.verdicts import (
    NOT_JUDGED,
    NOT_SEPARABLE,
    SEPARABLE,
    Verdict,
    against,
    evaluated_images,
    interval,
)

# The columns of the other curves, by the outcome of the verdict against them.
COLUMNS = {
    SEPARABLE: "separable_from",
    NOT_SEPARABLE: "not_separable_from",
    NOT_JUDGED: "not_judged_against",
}


@dataclass(frozen=True, kw_only=True)
class CurveSummary:
    """A curve in numbers: means and ranges over its seeds. Accuracies are fractions.

    A diverged seed counts as chance in the accuracies. They are NaN where no seed is complete, so
    that no model is left.
    """

    curve: str
    varied: Mapping[str, Any]  # the fields that differ between the curves, and their values
    n: int  # seeds
    complete: int  # seeds with all epochs; `diverged` and `unfinished` name the others
    split: str
    images: int  # the smallest number that an accuracy comes from
    final_accuracy: float
    final_lowest: float
    final_highest: float
    final_low: float  # of the 95 % interval (verdicts.interval)
    final_high: float
    best_accuracy: float
    best_epoch: str  # of each complete seed: "12, 9"
    verdicts: Sequence[Verdict]  # on the final accuracy, against each other curve
    epochs: int  # planned
    last_epoch: int  # that any seed has trained
    seconds: Seconds
    seconds_verdicts: Sequence[Verdict]
    parameters: int | None
    diverged: str
    unfinished: str
    run_ids: str

    def row(self) -> dict[str, Any]:
        """The columns of summary.csv."""
        row = dict(vars(self))
        row |= row.pop("varied")
        split = row.pop("split")
        for name in ("final", "best"):
            row[f"{name}_{split}_accuracy"] = row.pop(f"{name}_accuracy")
        names = ("train_seconds_per_epoch", "seconds_lowest", "seconds_highest")
        row |= dict(zip(names, row.pop("seconds"), strict=True))
        for prefix, pairs in {"": "verdicts", "seconds_": "seconds_verdicts"}.items():
            row |= {prefix + name: text for name, text in by_outcome(row.pop(pairs)).items()}
        return row


def summary(comparison: Comparison) -> list[CurveSummary]:
    """A row for each curve."""
    images = evaluated_images(comparison.trainings)
    return [_summary(curve, comparison, images) for curve in comparison.curves]


def _summary(curve: Curve, comparison: Comparison, images: int) -> CurveSummary:
    finals, bests = curve.scores("last"), curve.scores("best")
    low, high = interval(finals, images)
    complete = [training for training in curve.trainings if training.complete]
    parameters = curve.trainings[0].number("parameters")
    diverged = [(t, t.diverged) for t in curve.trainings if t.diverged is not None]
    unfinished = [(t, t.last_epoch) for t in curve.trainings if t.unfinished]
    return CurveSummary(
        curve=curve.name,
        varied={n: curve.values[n] if acts(n, curve.values) else "" for n in comparison.differing},
        n=len(curve.trainings),
        complete=len(complete),
        split=curve.split,
        images=images,
        final_accuracy=float(finals.mean()),
        final_lowest=float(finals.min()),
        final_highest=float(finals.max()),
        final_low=low,
        final_high=high,
        best_accuracy=float(bests.mean()),
        best_epoch=", ".join(str(training.best_epoch) for training in complete),
        verdicts=against(curve.label, comparison.verdicts),
        epochs=curve.values["epochs"],
        last_epoch=max(training.last_epoch for training in curve.trainings),
        seconds=curve.seconds,
        seconds_verdicts=against(curve.label, comparison.verdicts_on_seconds),
        parameters=None if math.isnan(parameters) else int(parameters),
        diverged=_named(diverged, "in epoch"),
        unfinished=_named(unfinished, "after epoch"),
        run_ids=" ".join(training.run_id for training in curve.trainings),
    )


def _named(trainings: Sequence[tuple[Training, int]], at: str) -> str:
    """ "seed 1 in epoch 3, seed 2 in epoch 7"."""
    return ", ".join(f"seed {t.values['seed']} {at} {epoch}" for t, epoch in trainings)


def by_outcome(verdicts: Sequence[Verdict], shortened: bool = False) -> dict[str, str]:
    """The other curves by column: "adam; sgd (too few seeds)" are not judged against.

    shortened: "all others" in place of three or more, if that is what they are.
    """
    columns = {}
    for outcome, column in COLUMNS.items():
        by_reason: dict[str, list[str]] = {}
        for pair in verdicts:
            if pair.outcome == outcome:
                by_reason.setdefault(pair.reason, []).append(pair.other)
        texts = [
            "all others" if shortened and len(labels) == len(verdicts) > 2 else "; ".join(labels)
            for labels in by_reason.values()
        ]
        reasons = (f" ({reason})" if reason else "" for reason in by_reason)
        columns[column] = "; ".join(map(str.__add__, texts, reasons))
    return columns


def by_rate(comparison: Comparison) -> dict[str, dict[float, float]]:
    """By optimizer: the score (Training.score), mean over seeds, by ascending learning rate.

    Groups also by every other field that differs. Leaves out groups with one learning rate, and
    unfinished runs.
    """
    by = [name for name in comparison.differing if name != "learning_rate"] or ["optimizer"]
    lines: dict[str, dict[float, float]] = {}
    for curve in comparison.curves:
        scores = np.array([training.score(comparison.criterion) for training in curve.trainings])
        if not np.isnan(scores).all():
            name = ", ".join(words(n, curve.values[n]) for n in by if acts(n, curve.values))
            lines.setdefault(name, {})[curve.values["learning_rate"]] = float(np.nanmean(scores))
    return {name: dict(sorted(rates.items())) for name, rates in lines.items() if len(rates) > 1}


@dataclass(frozen=True)
class Outcomes:
    """The decisions of a search, by run id."""

    chosen: Collection[str] = ()
    tied: Collection[str] = ()  # not worse than the best beyond chance


def tried(comparison: Comparison, outcomes: Outcomes) -> list[dict[str, Any]]:
    """The rows of grid.csv: each training of a search, with its accuracy by the criterion."""
    rows = []
    for training in comparison.trainings:
        outcome = "tied" if training.run_id in outcomes.tied else ""
        outcome = "chosen" if training.run_id in outcomes.chosen else outcome
        if training.diverged is not None:
            outcome = f"diverged in epoch {training.diverged}"
        row = {name: training.values[name] for name in ("optimizer", "learning_rate", "epochs")}
        row |= {"validation_accuracy": training.score(comparison.criterion)}
        rows.append(row | {"outcome": outcome, "run_id": training.run_id})
    return sorted(rows, key=lambda row: (row["optimizer"], row["learning_rate"]))
