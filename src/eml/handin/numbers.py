"""The numbers of a hand-in by name, with the runs and the metric that they come from."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from eml.analysis.comparison import Comparison
from eml.analysis.curves import CHANCE, Curve
from eml.analysis.labels import words
from eml.analysis.summary import CurveSummary, summary
from eml.analysis.verdicts import Verdict
from eml.errors import UserError, printable
from eml.exact.step import Solution

REFERENCE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
# The accuracies of a row of the summary.
ACCURACIES = {
    "final_accuracy": "after the last epoch",
    "best_accuracy": "of the best epoch",
    "final_lowest": "after the last epoch, lowest of the runs",
    "final_highest": "after the last epoch, highest of the runs",
    "final_low": "after the last epoch, low end of the 95 % interval",
    "final_high": "after the last epoch, high end of the 95 % interval",
}


class NumberError(UserError):
    """A text refers to a number that does not exist."""


class Number(NamedTuple):
    """A number as it is printed, and where it comes from."""

    shown: str
    value: float
    metric: str  # of the store, or how the number follows from it
    runs: tuple[str, ...]  # ids; empty where the number is calculated without a run


Numbered = Iterator[tuple[str, Number]]  # names, or their ends, with their numbers


@dataclass
class Numbers:
    """All numbers of a hand-in by name, and those of them that were printed."""

    all: dict[str, Number]
    printed: dict[str, Number] = field(default_factory=dict)

    def show(self, name: str) -> str:
        """The number for print. Raises NumberError, with the closest names, if there is none."""
        if name not in self.all:
            first = name.partition(".")[0]
            near = [other for other in self.all if other.startswith(f"{first}.")] or list(self.all)
            some = ", ".join(near[:8])
            raise NumberError(
                f"there is no number {{{{{printable(name, 80)}}}}}: `eml handin numbers` lists "
                f"all, as {some}"
            )
        self.printed[name] = self.all[name]
        return self.all[name].shown

    def fill(self, text: str) -> str:
        """The text with its {{name}} replaced by the numbers."""
        return REFERENCE.sub(lambda match: self.show(match[1].strip()), text)


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
        """A reference to one of its numbers."""
        return f"{{{{{self.start}.{key}}}}}"


def named_curves(recipe: str, comparison: Comparison) -> list[NamedCurve]:
    """The curves, named by the field that the recipe compares; by their labels if it is equal."""
    drawn, varies = comparison.curves, comparison.varies
    values = [curve.values[varies] for curve in drawn] if varies else []
    if len(drawn) == 1 and not varies:
        return [NamedCurve(drawn[0], drawn[0].label or "the network", recipe)]
    if values and len(set(values)) == len(drawn):
        titles = [words(varies, value) for value in values]
        names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    else:
        titles = [curve.label for curve in drawn]
        names = [re.sub(r"[^\w.]+", "_", curve.label.lower()) for curve in drawn]
    return [
        NamedCurve(curve, title, f"{recipe}.{name}")
        for curve, title, name in zip(drawn, titles, names, strict=True)
    ]


def of_gradients(solution: Solution) -> dict[str, Number]:
    """Every value of the exact step."""
    lines = zip(solution.numbers().items(), solution.lines, strict=True)
    return {
        f"gradients.{name}": Number(f"{value:g}", value, f"{line.quantity}, calculated", ())
        for (name, value), line in lines
    }


def of_trainings(
    recipe: str, named: Sequence[NamedCurve], comparison: Comparison, tried: pd.DataFrame
) -> dict[str, Number]:
    """The numbers of all curves, of all pairs of curves, and of the trainings of a search."""
    numbers: dict[str, Number] = {}
    for one, row in zip(named, summary(comparison), strict=True):
        for part in (_of_runs(one, row), _losses(one), _seconds(one)):
            numbers |= {f"{one.start}.{key}": number for key, number in part}
    numbers |= dict([*_ratios(named), *_differences(named, comparison.verdicts), *_leads(named)])
    return numbers | {f"{recipe}.tried.{key}": number for key, number in _of_search(tried)}


def _of_runs(one: NamedCurve, row: CurveSummary) -> Numbered:
    """Number and parameters of a curve's runs, and their accuracies: means over the seeds."""

    def number(value: float, shown: str, metric: str) -> Number:
        return Number(shown, float(value), metric, one.ids)

    curve, n, accuracy = one.curve, len(one.ids), f"{one.curve.split}_accuracy"
    yield "n", number(n, str(n), "number of runs, one for each seed")
    for name in ("epochs", "batch_size", "learning_rate"):
        yield name, number(curve.values[name], f"{curve.values[name]:g}", f"parameter {name}")
    if row.parameters is not None:
        yield "parameters", number(row.parameters, f"{row.parameters:,}", "parameter parameters")
    for column, what in ACCURACIES.items():
        key = column.replace("_accuracy", f"_{accuracy}")
        if not math.isnan(value := getattr(row, column)):
            yield key, number(value, per_cent(value), f"{accuracy} {what}")
    if curve.diverged:
        epoch = curve.diverged[0]
        yield "diverged_in_epoch", number(epoch, str(epoch), "first epoch without a loss")
    if epochs := row.best_epoch:
        first = float(epochs.partition(",")[0])
        yield "best_epoch", number(first, epochs, f"epoch of the best {accuracy}")


def per_cent(fraction: float) -> str:
    """In per cent with two decimals, and a space at which no line breaks."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def _mean(one: NamedCurve) -> str:
    return "mean over the runs" if len(one.ids) > 1 else "of the run"


def _losses(one: NamedCurve) -> Numbered:
    for loss in ("train_loss", f"{one.curve.split}_loss"):
        band = one.curve.band("epoch", loss)
        if not len(band):
            continue
        lowest, mean = int(band.mean.argmin()), _mean(one)
        for key, at in {"initial": 0, "final": -1, "lowest": lowest}.items():
            value, metric = float(band.mean[at]), f"{loss} in epoch {band.epochs[at]}, {mean}"
            yield f"{key}_{loss}", Number(f"{value:.3g}", value, metric, one.ids)
        metric, epoch = f"epoch of the lowest {loss}, {mean}", band.epochs[lowest]
        yield f"lowest_{loss}_epoch", Number(str(epoch), float(epoch), metric, one.ids)


def _seconds(one: NamedCurve) -> Numbered:
    seconds, mean = one.curve.seconds.mean, _mean(one)
    if math.isfinite(seconds):
        ends = [np.nanmax(each.points["train_seconds"]) for each in one.curve.trainings]
        total = float(np.mean(ends))
        metric = f"train_seconds, {mean}"
        yield "seconds_per_epoch", Number(f"{seconds:.3g}", seconds, metric, one.ids)
        metric = f"train_seconds at the end, {mean}"
        yield "train_seconds", Number(f"{total:.3g}", total, metric, one.ids)


def _ratios(named: Sequence[NamedCurve]) -> Numbered:
    seconds = {one.start: one.curve.seconds.mean for one in named}
    for pair in combinations(named, 2):
        fast, slow = sorted(pair, key=lambda one: seconds[one.start])
        ratio = seconds[slow.start] / seconds[fast.start]
        if math.isfinite(ratio):
            metric = "ratio of the seconds per epoch, from train_seconds"
            name = f"{slow.start}.seconds_ratio_to_{fast.name}"
            yield name, Number(f"{ratio:.3g}", ratio, metric, slow.ids + fast.ids)


def _differences(named: Sequence[NamedCurve], verdicts: Sequence[Verdict]) -> Numbered:
    by_label = {one.curve.label: one for one in named}
    metric = "paired difference of test_accuracy, points"
    for pair in verdicts:
        one, other = by_label[pair.curve], by_label[pair.other]
        for key in ("difference", "low", "high"):
            value = getattr(pair, key)
            if math.isfinite(value):
                name = f"{one.start}.{key}_to_{other.name}"
                yield name, Number(f"{100 * value:+.2f}", value, metric, one.ids + other.ids)


def _leads(named: Sequence[NamedCurve]) -> Numbered:
    """Where the last leader takes the lead for good, and the number of epochs that curves lead."""
    if len(named) < 2:
        return
    ids = tuple(i for one in named for i in one.ids)
    accuracy = f"{named[0].curve.split}_accuracy"
    for x, unit in {"epoch": "epoch", "train_seconds": "seconds"}.items():
        leading = _leaders([one.curve for one in named], x, accuracy)
        if leading.empty:
            continue
        others = leading.index[leading != leading.iloc[-1]]
        start = leading.index[leading.index > others[-1]][0] if len(others) else leading.index[0]
        metric = f"first {x} from which it has the highest {accuracy}"
        name = f"{named[leading.iloc[-1]].start}.leads_from_{unit}"
        yield name, Number(f"{start:.3g}", float(start), metric, ids)
        for i, count in leading.value_counts().items() if x == "epoch" else ():
            metric = f"number of epochs with the highest {accuracy}"
            yield f"{named[i].start}.epochs_led", Number(str(count), float(count), metric, ids)


def _leaders(drawn: Sequence[Curve], x: str, metric: str) -> pd.Series:
    """By x, the index of the curve with the highest mean so far; empty without common values.

    x: "epoch" or "train_seconds", in which a curve keeps its last value. Before training no curve
    leads. Of equal curves, the one that led before goes on leading.
    """
    bands = [curve.band(x, metric) for curve in drawn]
    columns = {
        i: pd.Series(band.mean, band.x).groupby(level=0).last()
        for i, band in enumerate(bands)
        if len(band)
    }
    values = pd.DataFrame(columns).sort_index().ffill()
    values = values[values.index > 0].dropna(how="all")
    leaders: list[int] = []
    for _, row in values.iterrows():
        if not leaders or not row[leaders[-1]] >= row.max():
            leaders.append(int(row.idxmax()))
        else:
            leaders.append(leaders[-1])
    return pd.Series(leaders, index=values.index, dtype=int)


def _of_search(tried: pd.DataFrame) -> Numbered:
    """The validation accuracies of a search, by optimizer and learning rate."""
    for each in Comparison(tried).trainings if len(tried) else ():
        optimizer, rate = each.values["optimizer"], each.values["learning_rate"]
        value = float(each.accuracies[-1]) if each.diverged is None else CHANCE
        metric = f"validation_accuracy in epoch {each.last_epoch}"
        yield f"{optimizer}.{rate:g}", Number(per_cent(value), value, metric, (each.run_id,))
