"""Draws the figures of a comparison: first what they show, then their look."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import cycle, pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from eml.analysis.comparison import Comparison
from eml.analysis.curves import CHANCE, Band, Curve
from eml.analysis.fairness import differences
from eml.analysis.labels import X_LABELS
from eml.analysis.summary import by_rate
from eml.config import Config

UNITS = {"loss": " (cross-entropy, nats)", "accuracy": "", "second": "", "seconds": " (s)"}
FEW = 10  # points up to which each is marked
# Okabe and Ito's colours work for the colour-blind, the line styles in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
ORDERED = "viridis_r"  # from light to dark, also in grey
NUMERIC = {field.name for field in fields(Config) if field.type is not str}
SETTINGS = ["device_type", "optimizer", "learning_rate", "batch_size", "seed", "subset"]
SETTINGS += ["validation", "dtype", "precision", "momentum", "code_sha256"]
# Characters that fit in a line.
LINE = 100
TITLE_LINE = 75
Draw = Callable[[Comparison], Figure]


@dataclass(frozen=True)
class RecipeFigure:
    """A figure that recipes have."""

    title: str  # in the hand-in
    needs: tuple[str, ...]  # metrics
    draw: Draw


def losses(comparison: Comparison) -> Figure:
    """Train and test (or validation) loss over the epochs, on one logarithmic scale."""
    metrics, curves = ("train_loss", f"{comparison.split}_loss"), comparison.curves
    what = f"train and {comparison.split} loss"
    figure, (axes,) = _canvas(comparison, what, "epoch", f"loss{UNITS['loss']}")
    by_curve = _looks(comparison.differing, max(2, len(curves)))
    for curve, look in zip(curves, by_curve, strict=False):
        # One curve has a colour for each loss, several have a line style for each loss.
        by_loss = by_curve if len(curves) == 1 else [look | {"linestyle": s} for s in ("-", "--")]
        for metric, style in zip(metrics, by_loss, strict=True):
            label = ", ".join(filter(None, (curve.label, metric.replace("_", " "))))
            label += " (mean during the epoch)" if metric == "train_loss" else ""
            _draw(axes, Curve(label, curve.trainings), curve.band("epoch", metric), style, metric)
    if axes.dataLim.ymin > 0:
        axes.set_yscale("log")  # also shows what differs late
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks([], minor=True)
    _legend(figure, axes)
    return figure


def over(comparison: Comparison, x: str, metric: str = "test_accuracy") -> Figure:
    """A metric of all runs over `x`, a key of X_LABELS.

    One run is drawn as a line, several seeds as their mean with a band from lowest to highest.
    Where curves end close to the best one, a second panel shows their ends; of a single curve its
    last two thirds.
    """
    name, kind = metric.replace("_", " "), metric.rpartition("_")[2]
    bands = [curve.band(x, metric) for curve in comparison.curves]
    points = [training.points[metric] for training in comparison.trainings]
    highest = float(np.fmax.reduce(np.concatenate(points)))
    near = _near(bands, kind, highest)
    label = name + UNITS[kind]
    figure, panels = _canvas(comparison, name, X_LABELS[x], label, 2 if near else 1)
    by_curve = _looks(comparison.differing, len(bands))
    drawn = list(zip(comparison.curves, bands, by_curve, strict=True))
    for axes in panels:
        for curve, band, look in drawn:
            _draw(axes, curve, band, look, metric)
        axes.set_xlim(left=0)
    panels[0].set_ylim(bottom=0)
    if kind == "accuracy":
        _from_zero(panels[0], highest)
    if near:
        _zoom_in(panels[1], near, kind)
    named = [(curve.label, band, look["color"]) for curve, band, look in drawn if len(band)]
    for axes, is_near in zip(panels, (False, True), strict=False):
        _name_ends(axes, [one for one in named if (one[1] in near) == is_near and named[1:]])
    _legend(figure, panels[0])
    return figure


FIGURES = {  # by the name of their files, without ending
    "loss_over_epochs": RecipeFigure(
        "Train and test loss over the epochs", ("train_loss", "test_loss"), losses
    ),
    "test_accuracy_over_epochs": RecipeFigure(
        "Test accuracy over the epochs", ("test_accuracy",), partial(over, x="epoch")
    ),
    "test_accuracy_over_train_seconds": RecipeFigure(
        "Test accuracy over the training time",
        ("test_accuracy", "train_seconds"),
        partial(over, x="train_seconds"),
    ),
}


def sensitivity(comparison: Comparison) -> Figure:
    """Accuracy over the learning rate, a line for each optimizer. Needs by_rate(comparison)."""
    lines, label = by_rate(comparison), comparison.score_name
    figure, (axes,) = _canvas(comparison, comparison.score_name, "learning rate", label)
    varying = [name for name in comparison.differing if name != "learning_rate"]
    by_line = _looks(varying, len(lines))
    for number, (name, scores) in enumerate(lines.items()):
        apart = 1.04 ** (number - (len(lines) - 1) / 2)  # off the points of the other lines
        x, y = [rate * apart for rate in scores], list(scores.values())
        axes.plot(x, y, marker="o", label=name, **by_line[number])
    axes.set_xscale("log")
    axes.margins(x=0.05)
    rates = sorted({rate for scores in lines.values() for rate in scores})
    rotation = 45 if len(rates) > 8 else 0
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=rotation)
    axes.set_xticks([], minor=True)
    _from_zero(axes, max(max(scores.values()) for scores in lines.values()))
    axes.axhline(CHANCE, color="0.5", linestyle=":", linewidth=1)
    axes.text(rates[0], CHANCE, "chance", va="bottom", color="0.4", fontsize="small")
    _legend(figure, axes)
    return figure


def _near(bands: Sequence[Band], kind: str, height: float) -> list[Band]:
    """Those that end too close to the best one to be told apart by eye; height: of the y-axis."""
    ends = [band.mean[-1] for band in bands if len(band)]
    if kind not in ("accuracy", "loss") or not ends:
        return []
    if len(bands) == 1:
        late = bands[0].mean[len(bands[0]) // 3 :]
        return list(bands) if late.max() - late.min() < 0.3 * height else []
    best = max(ends) if kind == "accuracy" else min(ends)
    near = [b for b in bands if len(b) and abs(b.mean[-1] - best) <= 0.1 * height]
    steps = [high - low for low, high in pairwise(sorted(band.mean[-1] for band in near))]
    return near if min(steps, default=height) < 0.03 * height else []


def _zoom_in(axes: Axes, bands: Sequence[Band], kind: str) -> None:
    starts = [len(band) * min(len(bands), 2) // 3 for band in bands]
    low = min(band.lowest[start:].min() for band, start in zip(bands, starts, strict=True))
    high = max(band.highest[start:].max() for band, start in zip(bands, starts, strict=True))
    pad = 0.3 * (high - low) or 0.01 * high or 0.01
    axes.set_ylim(low - pad, high + pad)
    axes.set_ylabel("enlarged")
    if kind == "accuracy":
        _per_cent(axes)


def _name_ends(axes: Axes, curves: Sequence[tuple[str, Band, str]]) -> None:
    """Write the first words of labels at the ends of their curves, apart from each other."""
    low, high = axes.get_ylim()
    above = -math.inf
    for label, band, colour in sorted(curves, key=lambda curve: curve[1].mean[-1]):
        if low <= (y := band.mean[-1]) <= high:
            above = max(y, above + 0.05 * (high - low))
            name = label.partition(", ")[0].removeprefix("learning rate ")
            style: dict[str, Any] = {"color": colour, "fontsize": "small", "va": "center"}
            axes.text(band.x[-1] + 0.01 * axes.get_xlim()[1], above, name, **style)


def _draw(axes: Axes, curve: Curve, band: Band, look: dict[str, Any], metric: str) -> None:
    label = _label(curve, band, metric)
    marker = "o" if len(band) <= FEW else ""
    axes.plot(band.x, band.mean, marker=marker, markersize=4, label=label, **look)
    # With "_" it is part of the curve, and not in the legend.
    part: dict[str, Any] = {"color": look["color"], "label": f"_{label}"}
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


def _looks(varying: Sequence[str], count: int) -> list[dict[str, Any]]:
    """A look for each of `count` curves: ordered shades where a single number varies."""
    if len(varying) == 1 and varying[0] in NUMERIC:
        shades = mpl.colormaps[ORDERED](np.linspace(0.3, 1, count))
        return [{"color": mpl.colors.to_hex(shade), "linestyle": "-"} for shade in shades]
    pairs = zip(cycle(COLOURS), cycle(STYLES), range(count), strict=False)
    return [{"color": colour, "linestyle": style} for colour, style, _ in pairs]


def _canvas(
    comparison: Comparison, what: str, x: str, y: str, panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """An empty figure of one or two panels, whose title names what all runs have in common."""
    # Without pyplot, which keeps every figure and may need a display.
    figure = Figure(figsize=(8, 5 + 2.5 * (panels - 1)), layout="constrained")
    ratios = [3, 2][:panels]
    all_axes = figure.subplots(panels, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    top, lines = all_axes[0], _caption(comparison, x)
    model = " in ".join(comparison.in_common(("model", "framework")))
    subject = " on ".join(filter(None, (model, *comparison.in_common(("dataset",)))))
    title = f"{comparison.subject}. " if comparison.subject else ""
    title += f"{subject}: {what}" if subject else what
    pad = 8 + 13 * max(1, len(lines))
    top.set_title(textwrap.fill(title, TITLE_LINE), loc="left", pad=pad)
    # Outside the layout, because a long line would leave no room for the axes.
    grey: dict[str, Any] = {"in_layout": False, "color": "0.35", "fontsize": "small"}
    top.text(0, 1.02, "\n".join(lines), transform=top.transAxes, **grey)
    all_axes[-1].set_xlabel(x)
    top.set_ylabel(y)
    for axes in all_axes:
        if x == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 5, 10], integer=True))
        axes.margins(x=0)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(all_axes)


def _caption(comparison: Comparison, x: str) -> list[str]:
    """The lines below the title: settings in common, what else differs, what has no counterpart."""
    settings = comparison.in_common(SETTINGS)
    if len({training.values["seed"] for training in comparison.trainings}) > 1:
        settings.append("lines: mean of the seeds, bands: their range")
    names = [line.partition(":")[0] for line in differences(comparison, "(s)" in x)]
    different = ", ".join(name for name in names if not name.startswith("git"))
    different = f"also different: {different}" if different else ""
    texts = ", ".join(settings), different, comparison.alone
    return [line for text in texts for line in textwrap.wrap(text, LINE)]


def _per_cent(axes: Axes) -> None:
    """Label the y-axis in per cent, at round values."""
    axes.yaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def _from_zero(axes: Axes, highest: float) -> None:
    """Per cent, from 0 to the next multiple of 10 above `highest`."""
    _per_cent(axes)
    axes.set_ylim(0, min(1, math.ceil(10 * min(highest, 1) + 0.2) / 10) if highest > 0 else 1)


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the axes, and enlarge the figure by its rows."""
    handles = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    names = [str(line.get_label()) for line in handles]
    columns = 2 if max(map(len, names)) < 50 else 1
    labels = [textwrap.fill(name, LINE) for name in names]
    rows = -(-len(handles) // columns) + sum(label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, rows - 3))
    look: dict[str, Any] = {"frameon": False, "fontsize": "small", "ncols": columns}
    figure.legend(handles, labels, loc="outside lower left", **look)
