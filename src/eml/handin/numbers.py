"""The numbers of a hand-in by name, with the runs and the metric that they come from."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from eml.analysis.comparison import Comparison
from eml.analysis.curves import CHANCE, Curve
from eml.analysis.labels import words
from eml.analysis.summary import CurveSummary, summary
from eml.exact.step import Solution
from eml.handin.evidence import Evidence

RANGES = ("final_lowest", "final_highest", "final_low", "final_high")  # of a CurveSummary


class Number(NamedTuple):
    """A number as it is printed, with its runs. The manifest has these names."""

    shown: str
    value: float
    runs: tuple[str, ...]  # ids; empty where the number is calculated without a run


Numbered = Iterator[tuple[str, Number]]  # names with their numbers


class NamedCurve(NamedTuple):
    """A curve with its names in texts and in numbers."""

    curve: Curve
    title: str  # "CNN", "learning rate 0.1"
    start: str  # of the names of its numbers: "mlp_vs_cnn.cnn", "lr_sweep.0.1", "mlp_numpy"

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
        names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    else:
        titles = [curve.label for curve in curves]
        names = [re.sub(r"[^\w.]+", "_", title.lower()) for title in titles]
    return [
        NamedCurve(curve, title, f"{recipe}.{name}")
        for curve, title, name in zip(curves, titles, names, strict=True)
    ]


def of_gradients(solution: Solution) -> Numbered:
    """Yield every value of the exact step."""
    for name, value in solution.numbers().items():
        yield f"gradients.{name}", Number(f"{value:g}", value, ())


def of_trainings(recipe: str, named: Sequence[NamedCurve], evidence: Evidence) -> Numbered:
    """Yield the numbers of all curves, of all pairs of curves, and of the trainings of a search."""
    for one, row in zip(named, summary(evidence.final), strict=True):
        for key, text, value in (*_of_runs(one.curve, row), *_of_epochs(one.curve)):
            yield f"{one.start}.{key}", Number(text, float(value), one.ids)
    yield from _of_pairs(named, evidence.final)
    for training in evidence.tried.trainings:
        name = f"{training.values['optimizer']}.{training.values['learning_rate']:g}"
        accuracy = CHANCE if training.diverged is not None else float(training.accuracies[-1])
        number = Number(per_cent(accuracy), accuracy, (training.run_id,))
        yield f"{recipe}.tried.{name}", number


def _of_runs(curve: Curve, row: CurveSummary) -> Iterator[tuple[str, str, float]]:
    """Yield name, text and value of a curve's parameters, and of its accuracies over the runs."""
    yield "n", str(row.n), row.n
    for name in ("epochs", "batch_size", "learning_rate"):
        yield name, f"{curve.values[name]:g}", curve.values[name]
    if row.parameters is not None:
        yield "parameters", f"{row.parameters:,}", row.parameters
    for name in ("final_accuracy", "best_accuracy", *RANGES):
        if not math.isnan(value := getattr(row, name)):
            yield name.replace("_accuracy", f"_{row.split}_accuracy"), per_cent(value), value
    if curve.diverged:
        yield "diverged_in_epoch", str(curve.diverged[0]), curve.diverged[0]
    if row.best_epoch:
        yield "best_epoch", row.best_epoch, float(row.best_epoch.partition(",")[0])


def per_cent(fraction: float) -> str:
    """Write in per cent with two decimals, and a space at which no line breaks."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def _of_epochs(curve: Curve) -> Iterator[tuple[str, str, float]]:
    """Yield name, text and value of losses and seconds: means over the runs."""
    for loss in ("train_loss", f"{curve.split}_loss"):
        if len(band := curve.band("epoch", loss)):
            lowest = int(band.mean.argmin())
            for key, i in {"initial": 0, "final": -1, "lowest": lowest}.items():
                yield f"{key}_{loss}", f"{band.mean[i]:.3g}", band.mean[i]
            yield f"lowest_{loss}_epoch", str(band.epochs[lowest]), band.epochs[lowest]
    if math.isfinite(seconds := curve.seconds.mean):
        ends = [np.nanmax(training.points["train_seconds"]) for training in curve.trainings]
        yield "seconds_per_epoch", f"{seconds:.3g}", seconds
        yield "train_seconds", f"{np.mean(ends):.3g}", float(np.mean(ends))


def _of_pairs(named: Sequence[NamedCurve], comparison: Comparison) -> Numbered:
    """Yield the ratios of the seconds per epoch, and the paired differences of the accuracies."""
    for pair in combinations(named, 2):
        fast, slow = sorted(pair, key=lambda one: one.curve.seconds.mean)
        seconds, least = slow.curve.seconds.mean, fast.curve.seconds.mean
        if least > 0 and math.isfinite(ratio := seconds / least):
            name = f"{slow.start}.seconds_ratio_to_{fast.name}"
            yield name, Number(f"{ratio:.3g}", ratio, slow.ids + fast.ids)
    by_label = {one.curve.label: one for one in named}
    for verdict in comparison.verdicts:
        one, other = by_label[verdict.curve], by_label[verdict.other]
        for key in ("difference", "low", "high"):
            if math.isfinite(value := getattr(verdict, key)):
                name = f"{one.start}.{key}_to_{other.name}"
                yield name, Number(f"{100 * value:+.2f}", value, one.ids + other.ids)
