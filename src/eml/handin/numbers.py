"""The numbers of a hand-in by name, each with the runs and the metric it comes from."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from eml.analysis.curves import CHANCE, Curve, curves, over_seeds, trainings_of
from eml.analysis.labels import words
from eml.analysis.leads import leaders, leads_to_the_end
from eml.analysis.seconds import epoch_seconds
from eml.analysis.summary import summary
from eml.analysis.verdicts import Verdict
from eml.errors import UserError
from eml.exact.step import Solution
from eml.handin.evidence import Evidence
from eml.handin.sheet import Trainings
from eml.text import printable

REFERENCE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class NumberError(UserError):
    """A text refers to a number that does not exist."""


class Number(NamedTuple):
    """A number as it is printed, and where it comes from."""

    shown: str
    value: float
    metric: str  # of the store, or how the number follows from it
    runs: tuple[str, ...]  # ids; empty where the number is calculated without a run


@dataclass
class Numbers:
    """All numbers of a hand-in by name, and the names of those that were printed."""

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
        """The text with each {{name}} replaced by its number."""
        return REFERENCE.sub(lambda found: self.show(found[1].strip()), text)


def per_cent(fraction: float) -> str:
    """In per cent with two decimals, and a space at which no line breaks."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def titles_of(history: pd.DataFrame, varies: str) -> list[str]:
    """For each curve its name in sentences: "CNN", "learning rate 0.1"."""
    drawn = curves(history)
    if varies and len({curve.values[varies] for curve in drawn}) == len(drawn):
        return [words(varies, curve.values[varies]) for curve in drawn]
    return [curve.label or "the network" for curve in drawn]


def names_of(history: pd.DataFrame, varies: str) -> list[str]:
    """For each curve the name in its numbers: the value of the field that the recipe compares.

    "" for a single curve. Where that value does not tell the curves apart, the curve's label.
    """
    drawn = curves(history)
    if len(drawn) == 1 and not varies:
        return [""]
    if varies:
        values = [curve.values[varies] for curve in drawn]
        names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        if len(set(names)) == len(names):
            return names
    return [re.sub(r"[^\w.]+", "_", curve.label.lower()) for curve in drawn]


def of_gradients(solution: Solution) -> dict[str, Number]:
    """Every value of the exact step."""
    lines = zip(solution.numbers().items(), solution.lines, strict=True)
    return {
        f"gradients.{name}": Number(f"{value:g}", value, f"{line.quantity}, calculated", ())
        for (name, value), line in lines
    }


def of_trainings(
    trainings: Trainings, evidence: Evidence, verdicts: list[Verdict]
) -> dict[str, Number]:
    """The numbers of each curve, of each pair of curves, and of each training of a search."""
    recipe, history = trainings.recipe, evidence.history
    drawn, names = curves(history), names_of(history, trainings.of.varies)
    rows = summary(history, pairs=verdicts).to_dict("records")
    found: dict[str, Number] = {}
    for name, curve, row in zip(names, drawn, rows, strict=True):
        start = f"{recipe}.{name}." if name else f"{recipe}."
        found |= {start + key: number for key, number in _of_curve(curve, row)}
    for (a, one), (b, other) in combinations(list(zip(names, drawn, strict=True)), 2):
        fast, slow = sorted([(a, one), (b, other)], key=lambda pair: epoch_seconds(pair[1]).mean)
        ratio = epoch_seconds(slow[1]).mean / epoch_seconds(fast[1]).mean
        if math.isfinite(ratio):
            found[f"{recipe}.{slow[0]}.seconds_ratio_to_{fast[0]}"] = Number(
                f"{ratio:.3g}",
                ratio,
                "ratio of the seconds per epoch, from train_seconds",
                _ids(slow[1]) + _ids(fast[1]),
            )
    for pair in verdicts:
        a, b = (names[[c.label for c in drawn].index(label)] for label in (pair.curve, pair.other))
        ids = tuple(i for c in drawn if c.label in (pair.curve, pair.other) for i in _ids(c))
        for key in ("difference", "low", "high"):
            value = getattr(pair, key)
            if math.isfinite(value):
                found[f"{recipe}.{a}.{key}_to_{b}"] = Number(
                    f"{100 * value:+.2f}", value, "paired difference of test_accuracy, points", ids
                )
    found |= {f"{recipe}.{key}": number for key, number in _of_leads(names, drawn)}
    for key, number in _of_search(evidence.tried):
        found[f"{recipe}.tried.{key}"] = number
    return found


def _ids(curve: Curve) -> tuple[str, ...]:
    return tuple(each.run_id for each in curve.trainings)


def _of_curve(curve: Curve, row: dict) -> Iterator[tuple[str, Number]]:
    """The numbers of a curve, means over its seeds."""
    ids = _ids(curve)
    mean = "mean over the runs" if len(ids) > 1 else "of the run"

    def number(value: float, shown: str, metric: str) -> Number:
        return Number(shown, float(value), metric, ids)

    yield "n", number(len(ids), str(len(ids)), "number of runs, one for each seed")
    for name in ("epochs", "batch_size", "learning_rate"):
        yield name, number(curve.values[name], f"{curve.values[name]:g}", f"parameter {name}")
    if not pd.isna(row["parameters"]):
        value = row["parameters"]
        yield "parameters", number(value, f"{value:,.0f}", "parameter parameters")
    split = "test" if "final_test_accuracy" in row else "validation"
    accuracy = f"{split}_accuracy"
    for key, what in {
        f"final_{accuracy}": "after the last epoch",
        f"best_{accuracy}": "of the best epoch",
        "final_lowest": "after the last epoch, lowest of the runs",
        "final_highest": "after the last epoch, highest of the runs",
        "final_low": "after the last epoch, low end of the 95 % interval",
        "final_high": "after the last epoch, high end of the 95 % interval",
    }.items():
        if not pd.isna(row[key]):
            yield key, number(row[key], per_cent(row[key]), f"{accuracy} {what}")
    if curve.diverged:
        first = curve.diverged[0]
        yield "diverged_in_epoch", number(first, str(first), "first epoch without a loss")
    if row["best_epoch"]:
        value = float(row["best_epoch"].partition(",")[0])
        yield "best_epoch", number(value, row["best_epoch"], f"epoch of the best {accuracy}")
    for loss in ("train_loss", f"{split}_loss"):
        table = over_seeds(curve, "epoch", loss)
        if table.empty:
            continue
        means = table["mean"]
        for key, epoch in {
            f"initial_{loss}": means.index[0],
            f"final_{loss}": means.index[-1],
            f"lowest_{loss}": means.idxmin(),
        }.items():
            yield (
                key,
                number(means[epoch], f"{means[epoch]:.3g}", f"{loss} in epoch {epoch}, {mean}"),
            )
        low = means.idxmin()
        yield f"lowest_{loss}_epoch", number(low, str(low), f"epoch of the lowest {loss}, {mean}")
    seconds = epoch_seconds(curve).mean
    if math.isfinite(seconds):
        total = np.mean([np.nanmax(each.points["train_seconds"]) for each in curve.trainings])
        yield "seconds_per_epoch", number(seconds, f"{seconds:.3g}", f"train_seconds, {mean}")
        yield "train_seconds", number(total, f"{total:.3g}", f"train_seconds at the end, {mean}")


def _of_leads(names: list[str], drawn: list[Curve]) -> Iterator[tuple[str, Number]]:
    """How long each of several curves leads, and from when on the last leader does."""
    if len(drawn) < 2:
        return
    every = tuple(id_ for curve in drawn for id_ in _ids(curve))
    metric = f"{drawn[0].split}_accuracy"
    for x, unit in {"epoch": "epoch", "train_seconds": "seconds"}.items():
        leading = leaders(drawn, x, metric)
        if leading.empty:
            continue
        start, last = leads_to_the_end(leading), names[leading.iloc[-1]]
        what = f"first {x} from which it has the highest {metric}"
        yield f"{last}.leads_from_{unit}", Number(f"{start:.3g}", start, what, every)
        for number, count in leading.value_counts().items() if x == "epoch" else ():
            what = f"number of epochs with the highest {metric}"
            yield f"{names[number]}.epochs_led", Number(str(count), float(count), what, every)


def _of_search(tried: pd.DataFrame) -> Iterator[tuple[str, Number]]:
    """The validation accuracy of each training of a search, by optimizer and learning rate."""
    for each in trainings_of(tried) if len(tried) else ():
        optimizer, rate = each.values["optimizer"], each.values["learning_rate"]
        value = float(each.accuracies[-1]) if each.diverged is None else CHANCE
        metric = f"validation_accuracy in epoch {each.last_epoch}"
        yield f"{optimizer}.{rate:g}", Number(per_cent(value), value, metric, (each.run_id,))
