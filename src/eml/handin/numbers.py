"""The numbers of a hand-in by name, with the runs that they come from."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Curve
from eml.analysis.labels import MEDIAN, in_digits, words
from eml.analysis.summary import CurveSummary, summary
from eml.handin.evidence import Evidence

ACCURACIES = ("final_accuracy", "best_accuracy")  # of a CurveSummary
RANGES = ("final_lowest", "final_highest", "final_low", "final_high")  # the same


class Number(NamedTuple):
    """A number as it is printed, with its runs. The manifest has these names."""

    shown: str
    value: float
    runs: tuple[str, ...]  # ids; empty where the number is calculated without a run


class NamedCurve(NamedTuple):
    """A curve with its names in texts and in numbers."""

    curve: Curve
    title: str  # "CNN", "learning rate 0.1"
    start: str  # of the names of its numbers: "mlp_vs_cnn.cnn", "lr_sweep.0.1", "mlp_numpy"

    @property
    def opening(self) -> str:
        """The title at the beginning of a sentence."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def name(self) -> str:
        """Its last part, in the names of pairs: "cnn"."""
        return self.start.partition(".")[2]

    @property
    def ids(self) -> tuple[str, ...]:
        """Its run ids."""
        return tuple(training.run_id for training in self.curve.trainings)

    def number(self, key: str) -> str:
        """Return a reference to one of its numbers."""
        return f"{{{{{self.start}.{key}}}}}"


def named_curves(recipe: str, comparison: Comparison) -> list[NamedCurve]:
    """Name the curves by the field that the recipe compares; by their labels if it is equal."""
    curves, varies = comparison.curves, comparison.varies
    if len(curves) == 1 and not varies:
        return [NamedCurve(curves[0], curves[0].label or "the network", recipe)]
    values = [curve.values[varies] for curve in curves] if varies else []
    if values and len(set(values)) == len(curves):
        titles = [words(varies, value) for value in values]
        names = [plain(value) for value in values]
    else:
        titles = [curve.label for curve in curves]
        names = [re.sub(r"[^\w.]+", "_", title.lower()) for title in titles]
    return list(map(NamedCurve, curves, titles, (f"{recipe}.{name}" for name in names)))


def complete(named: Sequence[NamedCurve]) -> list[NamedCurve]:
    """Leave out the curves without a complete training."""
    return [one for one in named if any(training.complete for training in one.curve.trainings)]


def of_trainings(
    recipe: str, named: Sequence[NamedCurve], evidence: Evidence
) -> Iterator[tuple[str, Number]]:
    """Yield the numbers of all curves, of each curve to each other, and of a search's trainings."""
    for one, row in zip(named, summary(evidence.final), strict=True):
        for key, text, value in _of_curve(one.curve, row):
            yield f"{one.start}.{key}", Number(text, float(value), one.ids)
    both = (one for pair in evidence.final.verdicts for one in (pair, pair.swapped()))
    pairs = {(pair.curve, pair.other): pair for pair in both}
    for one, other in permutations(named, 2):
        seconds, least = one.curve.seconds.mean, other.curve.seconds.mean
        if least > 0 and math.isfinite(ratio := seconds / least):
            name = f"{one.start}.seconds_ratio_to_{other.name}"
            yield name, Number(in_digits(ratio), ratio, one.ids + other.ids)
        pair = pairs[one.curve.label, other.curve.label]
        for key in ("difference", "low", "high"):
            if math.isfinite(value := getattr(pair, key)):
                name = f"{one.start}.{key}_to_{other.name}"
                yield name, Number(f"{100 * value:+.2f}", value, one.ids + other.ids)
    for training in evidence.tried.trainings:
        name = f"{training.values['optimizer']}.{training.values['learning_rate']:g}"
        if not math.isnan(accuracy := training.score(MEDIAN)):
            number = Number(per_cent(accuracy), accuracy, (training.run_id,))
            yield f"{recipe}.searched.{name}", number


def _of_curve(curve: Curve, row: CurveSummary) -> Iterator[tuple[str, str, float]]:
    """Yield name, text and value of each number of a curve: means over its runs, and ranges."""
    yield "n", str(row.n), row.n
    for name in ("epochs", "batch_size", "learning_rate"):
        yield name, plain(curve.values[name]), curve.values[name]
    if row.parameters is not None:
        yield "parameters", f"{row.parameters:,}", row.parameters
    for name in (*ACCURACIES, *RANGES):
        if not math.isnan(value := getattr(row, name)):
            yield name.replace("_accuracy", f"_{row.split}_accuracy"), per_cent(value), value
    for name, epochs in {
        "diverged_in_epoch": curve.diverged,
        "best_epoch": [int(epoch) for epoch in row.best_epoch.split(", ") if epoch],
    }.items():
        if epochs:
            several = epochs if len(set(epochs)) > 1 else epochs[:1]
            yield name, ", ".join(map(str, several)), epochs[0]
    for loss in ("train_loss", f"{curve.split}_loss"):
        if len(band := curve.band("epoch", loss)):
            lowest = int(band.mean.argmin())
            for key, i in {"initial": 0, "final": -1, "lowest": lowest}.items():
                yield f"{key}_{loss}", in_digits(band.mean[i]), band.mean[i]
            yield f"lowest_{loss}_epoch", str(band.epochs[lowest]), band.epochs[lowest]
    if math.isfinite(seconds := curve.seconds.mean):
        clocks = [training.points["train_seconds"] for training in curve.trainings]
        ends = [np.nanmax(clock) for clock in clocks if not np.isnan(clock).all()]
        yield "seconds_per_epoch", in_digits(seconds), seconds
        yield "train_seconds", in_digits(np.mean(ends)), float(np.mean(ends))


def plain(value: object) -> str:
    """Write a value as in an option: 0.1, 64, adam."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def per_cent(fraction: float) -> str:
    """Write in per cent with two decimals, and a space at which no line breaks."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"
