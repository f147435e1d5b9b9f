"""The numbers of a hand-in by name, with the runs that they come from, and generated sentences."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np

from eml.analysis.comparison import Comparison
from eml.analysis.curves import CHANCE, Curve
from eml.analysis.figures import FIGURES
from eml.analysis.labels import in_digits, words
from eml.analysis.summary import CurveSummary, summary
from eml.analysis.verdicts import Verdict
from eml.handin.evidence import Evidence
from eml.handin.sheet import Assignment

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


def of_trainings(
    recipe: str, named: Sequence[NamedCurve], evidence: Evidence
) -> Iterator[tuple[str, Number]]:
    """Yield the numbers of all curves, of each curve to each other, and of a search's trainings."""
    for one, row in zip(named, summary(evidence.final), strict=True):
        for key, text, value in _of_curve(one.curve, row):
            yield f"{one.start}.{key}", Number(text, float(value), one.ids)
    differences = {}
    for v in evidence.final.verdicts:
        differences[v.curve, v.other] = v.difference, v.low, v.high
        differences[v.other, v.curve] = 0 - v.difference, 0 - v.high, 0 - v.low  # 0, never -0
    for one, other in permutations(named, 2):
        seconds, least = one.curve.seconds.mean, other.curve.seconds.mean
        if least > 0 and math.isfinite(ratio := seconds / least):
            name = f"{one.start}.seconds_ratio_to_{other.name}"
            yield name, Number(in_digits(ratio), ratio, one.ids + other.ids)
        values = differences[one.curve.label, other.curve.label]
        for key, value in zip(("difference", "low", "high"), values, strict=True):
            if math.isfinite(value):
                name = f"{one.start}.{key}_to_{other.name}"
                yield name, Number(f"{100 * value:+.2f}", value, one.ids + other.ids)
    for training in evidence.tried.trainings:
        name = f"{training.values['optimizer']}.{training.values['learning_rate']:g}"
        accuracy = CHANCE if training.diverged is not None else training.last_scored[1]
        number = Number(per_cent(accuracy), accuracy, (training.run_id,))
        yield f"{recipe}.tried.{name}", number


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
    if curve.diverged:
        yield "diverged_in_epoch", str(curve.diverged[0]), curve.diverged[0]
    if row.best_epoch:
        yield "best_epoch", row.best_epoch, float(row.best_epoch.partition(",")[0])
    for loss in ("train_loss", f"{curve.split}_loss"):
        if len(band := curve.band("epoch", loss)):
            lowest = int(band.mean.argmin())
            for key, i in {"initial": 0, "final": -1, "lowest": lowest}.items():
                yield f"{key}_{loss}", in_digits(band.mean[i]), band.mean[i]
            yield f"lowest_{loss}_epoch", str(band.epochs[lowest]), band.epochs[lowest]
    if math.isfinite(seconds := curve.seconds.mean):
        ends = [np.nanmax(training.points["train_seconds"]) for training in curve.trainings]
        yield "seconds_per_epoch", in_digits(seconds), seconds
        yield "train_seconds", in_digits(np.mean(ends)), float(np.mean(ends))


def plain(value: object) -> str:
    """Write a value as in an option: 0.1, 64, adam."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def per_cent(fraction: float) -> str:
    """Write in per cent with two decimals, and a space at which no line breaks."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def sentences(
    assignment: Assignment, figure: str, named: Sequence[NamedCurve], verdicts: Sequence[Verdict]
) -> list[str]:
    """Say order, best epoch, what is separable, seconds and divergence; without conclusions.

    The numbers in the sentences are references: {{lr_sweep.0.1.n}}.
    """
    needs, lines = FIGURES[figure].needs, list[str]()
    for one in named if "test_loss" in needs else ():
        loss = f"{one.curve.split}_loss"
        if len(one.curve.band("epoch", loss)):
            whose = f" of {one.title}" if len(named) > 1 else ""
            lowest, epoch = one.number(f"lowest_{loss}"), one.number(f"lowest_{loss}_epoch")
            lines.append(f"The lowest {one.curve.split} loss{whose} is {lowest}, in epoch {epoch}.")
    # Several figures of the same accuracies: the order and the verdicts stand under the first.
    accuracies = [name for name in assignment.figures if "test_accuracy" in FIGURES[name].needs]
    if figure in accuracies[:1]:
        lines += [*_accuracies(named), *_separable(named, verdicts)]
    if "train_seconds" in needs:
        lines += _seconds(named)
    for one in named:
        if one.curve.diverged:
            lines.append(f"{one.title} diverged in epoch {one.number('diverged_in_epoch')}.")
    return [line[:1].upper() + line[1:] for line in lines]


def _accuracies(named: Sequence[NamedCurve]) -> Iterator[str]:
    """Yield the final accuracies in descending order, and the best, without what has diverged."""
    whole = [one for one in named if len(one.curve.diverged) < len(one.curve.trainings)]
    if not whole:
        return
    split, is_one = whole[0].curve.split, len(named) == 1
    key = f"{split}_accuracy"
    means = {one.start: one.curve.band("epoch", key).mean for one in whole}
    parts = []
    for one in sorted(whole, key=lambda one: -means[one.start][-1]):
        part = one.number(f"final_{key}") if is_one else f"{one.title} {one.number(f'final_{key}')}"
        if len(one.ids) > 1:
            spread = f"{one.number('final_lowest')} to {one.number('final_highest')}"
            part += f" (mean of {one.number('n')} runs, {spread})"
        parts.append(part)
    order = "" if is_one else ", in descending order"
    epochs = whole[0].number("epochs")
    yield f"{split} accuracy after epoch {epochs}{order}: {', '.join(parts)}."
    best = max(whole, key=lambda one: means[one.start].max())
    whose = "" if is_one else f" ({best.title})"
    epoch = f"epoch{'s' if len(best.ids) > 1 else ''} {best.number('best_epoch')}"
    yield f"Best {split} accuracy: {best.number(f'best_{key}')}{whose}, in {epoch}."


def _separable(named: Sequence[NamedCurve], verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the pairs without a separable difference, by the paired intervals over the seeds."""
    decided = [pair for pair in verdicts if pair.decided]
    undecided = [pair for pair in decided if not pair.separable]
    if verdicts and not decided:
        yield (
            f"With n = {named[0].number('n')} there are too few seeds to tell which of these "
            "differences are more than chance."
        )
    by_label = {one.curve.label: one for one in named}
    for pair in undecided:
        one, other = by_label[pair.curve], by_label[pair.other]
        difference, low, high = (
            one.number(f"{key}_to_{other.name}") for key in ("difference", "low", "high")
        )
        yield (
            f"{one.title} and {other.title} are not separable (difference {difference} points, "
            f"95 % interval {low} to {high})."
        )
    if len(undecided) < len(decided):
        rest = "All other" if undecided else "All"
        yield f"{rest} differences after the last epoch are separable at 95 %."


def _seconds(named: Sequence[NamedCurve]) -> Iterator[str]:
    timed = [one for one in named if math.isfinite(one.curve.seconds.mean)]
    for one in timed:
        total, mean = one.number("train_seconds"), one.number("seconds_per_epoch")
        yield f"{one.title}: {total} s of training, {mean} s per epoch."
    for fast, slow in pairwise(sorted(timed, key=lambda one: one.curve.seconds.mean)):
        if fast.curve.seconds.overlaps(slow.curve.seconds):
            yield f"The epoch times of {fast.title} and {slow.title} overlap."
        else:
            ratio = slow.number(f"seconds_ratio_to_{fast.name}")
            yield f"Per epoch, {slow.title} takes {ratio} times as long as {fast.title}."
