"""Draws the figures of a comparison."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Band, Curve
from eml.analysis.labels import CRITERIA, X_LABELS, words
from eml.analysis.style import Look, canvas, from_zero, legend, looks, per_cent, rates_axis
from eml.analysis.summary import Tried, by_rate

UNITS = {"loss": " (cross-entropy, nats)", "accuracy": "", "second": "", "seconds": " (s)"}
# By the first word of an outcome: its marker. WHOLE are trained to the end.
KINDS = {"": "o", "chosen": "*", "tied": "D", "pruned": "o", "diverged": "x"}
WHOLE = ("", "chosen", "tied")
MOST = 20  # curves in a figure
FEW = 10  # points up to which each is marked
Draw = Callable[[Comparison], Figure]


@dataclass(frozen=True)
class RecipeFigure:
    """A figure that recipes have."""

    name: str  # of its files, without ending
    title: str  # in the hand-in
    needs: tuple[str, ...]  # metrics
    draw: Draw


def losses(comparison: Comparison) -> Figure:
    """Train and test (or validation) loss over the epochs, on one scale."""
    metrics, what = ("train_loss", f"{comparison.split}_loss"), f"train and {comparison.split} loss"
    figure, (axes,) = canvas(comparison, what, "epoch", f"loss{UNITS['loss']}")
    curves = _best(comparison.curves, "epoch", metrics[1])
    by_curve = looks(comparison.differing, max(2, len(curves)))
    for curve, look in zip(curves, by_curve, strict=False):
        # One curve has a colour for each loss, several have a line style for each loss.
        by_loss = by_curve if len(curves) == 1 else [look._replace(style=s) for s in ("-", "--")]
        for metric, style in zip(metrics, by_loss, strict=True):
            label = ", ".join(filter(None, (curve.label, metric.replace("_", " "))))
            part = Curve(label, curve.trainings)
            _draw(axes, part, part.band("epoch", metric), style, metric)
    axes.set_ylim(bottom=0)
    _end(figure, axes, comparison)
    return figure


def over(comparison: Comparison, x: str, metric: str = "test_accuracy") -> Figure:
    """A metric of all runs over `x`, a key of X_LABELS.

    One run is drawn as a line, several seeds as their mean with a band from lowest to highest.
    Where curves end close to the best one, a second panel shows their ends.
    """
    name, kind = metric.replace("_", " "), metric.rpartition("_")[2]
    curves = _best(comparison.curves, x, metric)
    bands = [curve.band(x, metric) for curve in curves]
    points = [training.points[metric] for training in comparison.trainings]
    highest = float(np.fmax.reduce(np.concatenate(points)))
    near = _near(bands, kind, min(highest, 1) if kind == "accuracy" else highest)
    label = name + UNITS[kind]
    figure, panels = canvas(comparison, name, X_LABELS[x], label, 2 if near else 1)
    for axes in panels:
        by_curve = looks(comparison.differing, len(curves))
        for curve, band, look in zip(curves, bands, by_curve, strict=True):
            _draw(axes, curve, band, look, metric)
        axes.set_xlim(left=0)
    panels[0].set_ylim(bottom=0)
    if kind == "accuracy":
        from_zero(panels[0], highest)
    if near:
        _zoom_in(panels[1], near, kind)
    _end(figure, panels[0], comparison)
    return figure


FIGURES = {
    figure.name: figure
    for figure in (
        RecipeFigure(
            "loss_over_epochs",
            "Train and test loss over the epochs",
            ("train_loss", "test_loss"),
            losses,
        ),
        RecipeFigure(
            "test_accuracy_over_epochs",
            "Test accuracy over the epochs",
            ("test_accuracy",),
            partial(over, x="epoch"),
        ),
        RecipeFigure(
            "test_accuracy_over_train_seconds",
            "Test accuracy over the training time",
            ("test_accuracy", "train_seconds"),
            partial(over, x="train_seconds"),
        ),
    )
}


def accuracy_by(criterion: str, split: str) -> str:
    """The number that trainings are judged by, in words."""
    return f"{CRITERIA[criterion]} {split} accuracy"


def sensitivity(comparison: Comparison) -> Figure:
    """Accuracy over the learning rate, a line for each optimizer."""
    points = [
        (optimizer, rate, score, "")
        for optimizer, scores in by_rate(comparison).items()
        for rate, score in scores.items()
    ]
    return _over_rates(comparison, comparison.split, points)


def grid(comparison: Comparison, rows: Sequence[Tried]) -> Figure:
    """Validation accuracy over the learning rate, for all trainings of a search."""
    points = [
        (words("optimizer", row.optimizer), row.learning_rate, row.validation_accuracy, row.outcome)
        for row in rows
    ]
    return _over_rates(comparison, "validation", points)


def _over_rates(
    comparison: Comparison, split: str, points: Sequence[tuple[str, float, float, str]]
) -> Figure:
    """Points by the name of their line: learning rate, accuracy, and outcome (Tried.outcome)."""
    what = label = accuracy_by(comparison.criterion, split)
    if split == "test" and comparison.criterion == "best":
        label += "\n(chosen on the test set)"
    figure, (axes,) = canvas(comparison, what, "learning rate", label)
    names = list(dict.fromkeys(name for name, *_ in points))
    varying = [field for field in comparison.differing if field != "learning_rate"]
    for number, (name, look) in enumerate(zip(names, looks(varying, len(names)), strict=True)):
        apart = 1.04 ** (number - (len(names) - 1) / 2)  # off the points of the other lines
        line = [
            (rate * apart, y, outcome.partition(" ")[0], f": {rate:g}, with {y:.2%}")
            for other, rate, y, outcome in points
            if other == name
        ]
        label = name + "".join(text for *_, kind, text in line if kind == "chosen")
        whole = [(x, y) for x, y, kind, _ in line if kind in WHOLE]
        xs, ys = [x for x, _ in whole], [y for _, y in whole]
        axes.plot(xs, ys, look.style, color=look.colour, label=label)
        for x, y, kind, _ in line:
            _mark(axes, kind, [x], [y], look.colour)
    for kind in KINDS:
        if kind and any(outcome.startswith(kind) for *_, outcome in points):
            _mark(axes, kind, [], [], "0.35", kind)
    rates_axis(axes, {rate for _, rate, _, _ in points})
    from_zero(axes, max(y for _, _, y, _ in points))
    legend(figure, axes)
    return figure


def _mark(
    axes: Axes, kind: str, x: list[float], y: list[float], colour: str, label: str | None = None
) -> None:
    fill, size = "white" if kind == "pruned" else colour, 12 if kind == "chosen" else 6
    axes.plot(x, y, KINDS[kind], color=colour, mfc=fill, markersize=size, label=label)


def _best(curves: Sequence[Curve], x: str, metric: str) -> list[Curve]:
    """The MOST curves that end best, in their order."""
    sign = 1 if metric.endswith(("accuracy", "second")) else -1
    bands = [curve.band(x, metric) for curve in curves]
    ends = [sign * band.mean[-1] if len(band) else -math.inf for band in bands]
    ranked = sorted(range(len(ends)), key=ends.__getitem__, reverse=True)
    return [curves[i] for i in sorted(ranked[:MOST])]


def _end(figure: Figure, axes: Axes, comparison: Comparison) -> None:
    """Draw the legend, with the number of curves that are not drawn."""
    if (others := len(comparison.curves) - MOST) > 0:
        axes.plot([], [], " ", label=f"not drawn: {others} other curves, which end worse")
    legend(figure, axes)


def _near(bands: Sequence[Band], kind: str, height: float) -> list[Band]:
    """Those that end too close to the best one to be told apart by eye; [] if they can be.

    height: of the y-axis.
    """
    ends = [band.mean[-1] for band in bands if len(band)]
    if kind not in ("accuracy", "loss") or not ends:
        return []
    best = max(ends) if kind == "accuracy" else min(ends)
    near = [b for b in bands if len(b) and abs(b.mean[-1] - best) <= 0.1 * height]
    steps = [high - low for low, high in pairwise(sorted(band.mean[-1] for band in near))]
    return near if min(steps, default=height) < 0.03 * height else []


def _zoom_in(axes: Axes, bands: Sequence[Band], kind: str) -> None:
    """Set the y-axis to the range in which these curves end."""
    low, high = min(band.lowest[-1] for band in bands), max(band.highest[-1] for band in bands)
    pad = 0.3 * (high - low) or 0.01 * high or 0.01
    axes.set_ylim(low - pad, high + pad)
    axes.set_ylabel("the ends, enlarged")
    if kind == "accuracy":
        per_cent(axes)


def _draw(axes: Axes, curve: Curve, band: Band, look: Look, metric: str) -> None:
    """Draw a curve, each seed as far as its run goes."""
    label = _label(curve, band, metric)
    marker = "o" if len(band) <= FEW else ""
    style: dict[str, Any] = {"color": look.colour, "marker": marker, "markersize": 4}
    axes.plot(band.x, band.mean, look.style, label=label, **style)
    # With "_" it is part of the curve, and not in the legend.
    part: dict[str, Any] = {"color": look.colour, "label": f"_{label}"}
    if len(curve.trainings) > 1:
        axes.fill_between(band.x, band.lowest, band.highest, alpha=0.2, linewidth=0, **part)
    last = np.isin(band.epochs, [epoch - 1 for epoch in curve.diverged])
    if last.any():
        axes.plot(band.x[last], band.mean[last], "x", markersize=10, **part)


def _label(curve: Curve, band: Band, metric: str) -> str:
    """The name of a curve, the end of an accuracy, n, and what stopped or diverged."""
    label, seeds, planned = curve.label, len(curve.trainings), curve.values["epochs"]
    complete = any(training.complete for training in curve.trainings)
    if metric.endswith("accuracy") and complete and len(band) and band.epochs[-1] == planned:
        label = f"{label or metric.replace('_', ' ')}: {band.mean[-1]:.2%} at the end"
    if seeds > 1:
        label += f" (n = {seeds})"
    stopped = [training.last_epoch for training in curve.trainings if training.unfinished]
    some = "{} of " + f"{seeds} " if seeds > 1 else ""
    if stopped:
        label += f" ({some.format(len(stopped))}unfinished, epoch {min(stopped)} of {planned})"
    if ends := curve.diverged:
        label += f" ({some.format(len(ends))}diverged in epoch {', '.join(map(str, ends))})"
    if not (len(band) or stopped or ends):
        label += " (nothing to draw)"
    return label.strip() or metric.replace("_", " ")
