"""Draws the figures of a comparison."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Band, Curve
from eml.analysis.labels import CRITERIA, X_LABELS, words
from eml.analysis.style import Look, canvas, from_zero, legend, looks, over_rates, per_cent, zoom
from eml.analysis.summary import Tried, by_rate

UNITS = {"loss": " (cross-entropy, nats)", "accuracy": "", "second": "", "seconds": " (s)"}
# By the first word of an outcome: its marker. WHOLE are trained to the end.
KINDS = {"": "o", "chosen": "*", "tied": "D", "pruned": "o", "diverged": "x"}
WHOLE = ("", "chosen", "tied")
MOST = 20  # curves that are coloured, and named in the legend
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
    metrics, curves = ("train_loss", f"{comparison.split}_loss"), comparison.curves
    what = f"train and {comparison.split} loss"
    figure, (axes,) = canvas(comparison, what, "epoch", f"loss{UNITS['loss']}")
    bands = {name: [curve.band("epoch", name) for curve in curves] for name in metrics}
    best, others = ranked(bands[metrics[1]], highest=False)
    by_curve = looks(comparison.differing, len(best) if len(curves) > 1 else 2)
    _draw_in_grey(axes, [bands[name][i] for name in metrics for i in others], "losses")
    for number, i in enumerate(best):
        # One curve has a colour for each loss, several have a line style for each loss.
        colour = by_curve[number].colour
        pair = by_curve if len(curves) == 1 else [Look(colour), Look(colour, "--")]
        for metric, look in zip(metrics, pair, strict=True):
            label = ", ".join(filter(None, (curves[i].label, metric.replace("_", " "))))
            _draw(axes, Curve(label, curves[i].trainings), bands[metric][i], look, metric)
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def over(comparison: Comparison, x: str, metric: str = "test_accuracy") -> Figure:
    """A metric of all runs over `x`, a key of X_LABELS.

    One run is drawn as a line, several seeds as their mean with a band from lowest to highest. Of
    more than MOST curves the best are coloured. Where these end close to the best one, a second
    panel shows their ends.
    """
    name, kind = metric.replace("_", " "), metric.rpartition("_")[2]
    bands = [curve.band(x, metric) for curve in comparison.curves]
    best, others = ranked(bands, highest=kind in ("accuracy", "second"))
    points = [training.points[metric] for training in comparison.trainings]
    highest = np.fmax.reduce(np.concatenate(points))
    height = min(highest, 1) if kind == "accuracy" else highest
    with_end = [i for i in best if len(bands[i])]
    ends = [bands[i].mean[-1] for i in with_end]
    near = []
    if kind in ("accuracy", "loss") and ends:
        leader = max(ends) if kind == "accuracy" else min(ends)
        near = [bands[with_end[i]] for i in zoom(ends, leader, height)]
    label = name + UNITS[kind]
    figure, panels = canvas(comparison, name, X_LABELS[x], label, 2 if near else 1)
    for axes in panels:
        _draw_in_grey(axes, [bands[i] for i in others], "curves")
        for i, look in zip(best, looks(comparison.differing, len(best)), strict=True):
            _draw(axes, comparison.curves[i], bands[i], look, metric)
        axes.set_xlim(left=0)
    panels[0].set_ylim(bottom=0)
    if kind == "accuracy":
        from_zero(panels[0], highest)
    if near:
        _zoom_in(panels[1], near, kind)
    legend(figure, panels[0])
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
    what = label = accuracy_by(comparison.criterion, comparison.split)
    if comparison.split == "test" and comparison.criterion == "best":
        label += "\n(chosen on the test set)"
    figure, (axes,) = canvas(comparison, what, "learning rate", label)
    lines = by_rate(comparison)
    for (name, scores), (look, factor) in zip(
        lines.items(), _lines(comparison, len(lines)), strict=True
    ):
        x = [rate * factor for rate in scores]
        axes.plot(x, list(scores.values()), f"o{look.style}", color=look.colour, label=name)
    over_rates(axes, {training.values["learning_rate"] for training in comparison.trainings})
    from_zero(axes, max(max(scores.values()) for scores in lines.values()))
    legend(figure, axes)
    return figure


def grid(comparison: Comparison, rows: Sequence[Tried]) -> Figure:
    """Validation accuracy over the learning rate, for all trainings of a search."""
    what = accuracy_by(comparison.criterion, "validation")
    figure, (axes,) = canvas(comparison, what, "learning rate", what)
    optimizers = list(dict.fromkeys(row.optimizer for row in rows))
    for optimizer, (look, factor) in zip(
        optimizers, _lines(comparison, len(optimizers)), strict=True
    ):
        points = [
            (row.learning_rate * factor, row.validation_accuracy, row.outcome.partition(" ")[0])
            for row in rows
            if row.optimizer == optimizer
        ]
        label = words("optimizer", optimizer)
        for row in rows:
            if row.optimizer == optimizer and row.outcome == "chosen":
                label += f": {row.learning_rate:g}, with {row.validation_accuracy:.2%}"
        whole = [(x, y) for x, y, kind in points if kind in WHOLE]
        axes.plot(*zip(*whole, strict=True), look.style, color=look.colour, label=label)
        for x, y, kind in points:
            _mark(axes, kind, [x], [y], look.colour)
    for kind in KINDS:
        if kind and any(row.outcome.startswith(kind) for row in rows):
            _mark(axes, kind, [], [], "0.35", kind)
    over_rates(axes, {row.learning_rate for row in rows})
    from_zero(axes, max(row.validation_accuracy for row in rows))
    legend(figure, axes)
    return figure


def _mark(
    axes: Axes, kind: str, x: list[float], y: list[float], colour: str, label: str | None = None
) -> None:
    fill, size = "white" if kind == "pruned" else colour, 12 if kind == "chosen" else 6
    axes.plot(x, y, KINDS[kind], color=colour, mfc=fill, markersize=size, label=label)


def _lines(comparison: Comparison, count: int) -> list[tuple[Look, float]]:
    """For each line over the learning rates: its look, and a factor that sets its points apart."""
    names = [name for name in comparison.differing if name != "learning_rate"]
    middle = (count - 1) / 2
    return [(look, 1.04 ** (number - middle)) for number, look in enumerate(looks(names, count))]


def ranked(bands: Sequence[Band], highest: bool) -> tuple[list[int], list[int]]:
    """The numbers of the MOST curves that end best, and of all others, both in their order.

    highest: whether a higher end is better.
    """
    worst = -math.inf if highest else math.inf
    ends = [band.mean[-1] if len(band) else worst for band in bands]
    order = sorted(range(len(ends)), key=ends.__getitem__, reverse=highest)
    return sorted(order[:MOST]), sorted(order[MOST:])


def _draw_in_grey(axes: Axes, bands: Sequence[Band], what: str) -> None:
    if bands:
        grey: dict[str, Any] = {"color": "0.8", "linewidth": 0.6}
        segments = [np.column_stack((band.x, band.mean)) for band in bands]
        axes.add_collection(LineCollection(segments, zorder=1, **grey))
        axes.plot([], [], label=f"{len(bands)} other {what}", **grey)


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
    marker = look.marker or ("o" if len(band) <= FEW else "")
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
