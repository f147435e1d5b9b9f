"""The numbers of a hand-in by name, with the runs and the metric that they come from."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, pairwise
from typing import NamedTuple

import numpy as np

from eml.analysis.comparison import Comparison
from eml.analysis.curves import CHANCE, Band, Curve
from eml.analysis.labels import words
from eml.analysis.summary import CurveSummary, summary
from eml.exact.step import Solution
from eml.handin.evidence import Evidence

# The accuracies in a row of the summary.
ACCURACIES = {
    "final_accuracy": "after the last epoch",
    "best_accuracy": "of the best epoch",
    "final_lowest": "after the last epoch, lowest of the runs",
    "final_highest": "after the last epoch, highest of the runs",
    "final_low": "after the last epoch, low end of the 95 % interval",
    "final_high": "after the last epoch, high end of the 95 % interval",
}


class Number(NamedTuple):
    """A number as it is printed, and where it comes from. The manifest has these names."""

    shown: str
    value: float
    metric: str  # of the store, or how the number follows from it
    runs: tuple[str, ...]  # ids; empty where the number is calculated without a run


Numbered = Iterator[tuple[str, Number]]  # names with their numbers
Entry = tuple[str, str, float, str]  # the end of a name; the number's text, value and metric


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
    for (name, value), line in zip(solution.numbers().items(), solution.lines, strict=True):
        yield f"gradients.{name}", Number(f"{value:g}", value, f"{line.quantity}, calculated", ())


def of_trainings(recipe: str, named: Sequence[NamedCurve], evidence: Evidence) -> Numbered:
    """Yield the numbers of all curves, of all pairs of curves, and of the trainings of a search."""
    for one, row in zip(named, summary(evidence.final), strict=True):
        for entries in (_of_runs(one, row), _losses(one), _seconds(one)):
            for key, text, value, metric in entries:
                yield f"{one.start}.{key}", Number(text, float(value), metric, one.ids)
    yield from _ratios(named)
    yield from _differences(named, evidence.final)
    yield from _leads(named) if len(named) > 1 else ()
    for training in evidence.tried.trainings:
        optimizer, rate = training.values["optimizer"], training.values["learning_rate"]
        accuracy = CHANCE if training.diverged is not None else float(training.accuracies[-1])
        metric = f"validation_accuracy in epoch {training.last_epoch}"
        number = Number(per_cent(accuracy), accuracy, metric, (training.run_id,))
        yield f"{recipe}.tried.{optimizer}.{rate:g}", number


def _of_runs(one: NamedCurve, row: CurveSummary) -> Iterator[Entry]:
    """Yield the number and the parameters of a curve's runs, and their accuracies."""
    accuracy = f"{row.split}_accuracy"
    yield "n", str(row.n), row.n, "number of runs, one for each seed"
    for name in ("epochs", "batch_size", "learning_rate"):
        yield name, f"{one.curve.values[name]:g}", one.curve.values[name], f"parameter {name}"
    if row.parameters is not None:
        yield "parameters", f"{row.parameters:,}", row.parameters, "parameter parameters"
    for name, of in ACCURACIES.items():
        value, key = getattr(row, name), name.replace("_accuracy", f"_{accuracy}")
        if not math.isnan(value):
            yield key, per_cent(value), value, f"{accuracy} {of}"
    if one.curve.diverged:
        epoch = one.curve.diverged[0]
        yield "diverged_in_epoch", str(epoch), epoch, "first epoch without a loss"
    if row.best_epoch:
        first = float(row.best_epoch.partition(",")[0])
        yield "best_epoch", row.best_epoch, first, f"epoch of the best {accuracy}"


def per_cent(fraction: float) -> str:
    """Write in per cent with two decimals, and a space at which no line breaks."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def _mean(one: NamedCurve) -> str:
    return "mean over the runs" if len(one.ids) > 1 else "of the run"


def _losses(one: NamedCurve) -> Iterator[Entry]:
    for loss in ("train_loss", f"{one.curve.split}_loss"):
        band = one.curve.band("epoch", loss)
        if not len(band):
            continue
        lowest = int(band.mean.argmin())
        for key, i in {"initial": 0, "final": -1, "lowest": lowest}.items():
            metric = f"{loss} in epoch {band.epochs[i]}, {_mean(one)}"
            yield f"{key}_{loss}", f"{band.mean[i]:.3g}", band.mean[i], metric
        epoch, metric = band.epochs[lowest], f"epoch of the lowest {loss}, {_mean(one)}"
        yield f"lowest_{loss}_epoch", str(epoch), epoch, metric


def _seconds(one: NamedCurve) -> Iterator[Entry]:
    seconds = one.curve.seconds.mean
    if math.isfinite(seconds):
        ends = [np.nanmax(training.points["train_seconds"]) for training in one.curve.trainings]
        total = float(np.mean(ends))
        yield "seconds_per_epoch", f"{seconds:.3g}", seconds, f"train_seconds, {_mean(one)}"
        yield "train_seconds", f"{total:.3g}", total, f"train_seconds at the end, {_mean(one)}"


def _ratios(named: Sequence[NamedCurve]) -> Numbered:
    for pair in combinations(named, 2):
        fast, slow = sorted(pair, key=lambda one: one.curve.seconds.mean)
        seconds, least = slow.curve.seconds.mean, fast.curve.seconds.mean
        if least > 0 and math.isfinite(ratio := seconds / least):
            metric = "ratio of the seconds per epoch, from train_seconds"
            name = f"{slow.start}.seconds_ratio_to_{fast.name}"
            yield name, Number(f"{ratio:.3g}", ratio, metric, slow.ids + fast.ids)


def _differences(named: Sequence[NamedCurve], comparison: Comparison) -> Numbered:
    by_label = {one.curve.label: one for one in named}
    metric = "paired difference of test_accuracy, points"
    for pair in comparison.verdicts:
        one, other = by_label[pair.curve], by_label[pair.other]
        for key in ("difference", "low", "high"):
            value = getattr(pair, key)
            if math.isfinite(value):
                name = f"{one.start}.{key}_to_{other.name}"
                yield name, Number(f"{100 * value:+.2f}", value, metric, one.ids + other.ids)


def _leads(named: Sequence[NamedCurve]) -> Numbered:
    """Yield where the last leader takes the lead for good, and how many epochs each curve leads."""
    ids = tuple(run_id for one in named for run_id in one.ids)
    accuracy = f"{named[0].curve.split}_accuracy"
    for x, unit in {"epoch": "epoch", "train_seconds": "seconds"}.items():
        leaders = _leaders([one.curve.band(x, accuracy) for one in named])
        if not leaders:
            continue
        (start, _), (_, last) = leaders[0], leaders[-1]
        for (_, before), (at, leader) in pairwise(leaders):
            if leader == last != before:
                start = at
        metric = f"first {x} from which it has the highest {accuracy}"
        yield f"{named[last].start}.leads_from_{unit}", Number(f"{start:.3g}", start, metric, ids)
        for i, count in Counter(leader for _, leader in leaders).items() if x == "epoch" else ():
            metric = f"number of epochs with the highest {accuracy}"
            yield f"{named[i].start}.epochs_led", Number(str(count), float(count), metric, ids)


def _leaders(bands: Sequence[Band]) -> list[tuple[float, int]]:
    """Return by x the index of the band with the highest mean so far.

    A band keeps its last mean. Before training none leads. Of equal ones, the leader before stays.
    """
    points = [
        (float(x), i, float(mean))
        for i, band in enumerate(bands)
        for x, mean in zip(band.x, band.mean, strict=True)
        if x > 0
    ]
    means: dict[int, float] = {}
    leaders: list[tuple[float, int]] = []
    for x, group in groupby(sorted(points, key=lambda p: p[:2]), key=lambda p: p[0]):
        means |= {i: mean for _, i, mean in group}
        highest = [i for i in sorted(means) if means[i] == max(means.values())]
        stays = leaders and leaders[-1][1] in highest
        leaders.append((x, leaders[-1][1] if stays else highest[0]))
    return leaders
