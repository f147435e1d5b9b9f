"""Draws the figures from a history."""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from eml.analysis.curves import (
    Curve,
    curves,
    diverged_epoch,
    ended,
    evaluated,
    in_common,
    unfinished,
    words,
)
from eml.analysis.options import X_LABELS, FigureName
from eml.analysis.summary import best_by_rate

# Okabe and Ito's colours work for the colour-blind, the line styles in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("", "o", "s", "^")
SETTINGS = (
    "device_type",
    "optimizer",
    "learning_rate",
    "batch_size",
    "seed",
    "subset",
    "dtype",
    "precision",
)
# Characters that fit in a line.
LINE = 118
TITLE_LINE = 75
UNITS = {"loss": " (cross-entropy, nats)", "accuracy": "", "second": "", "seconds": " (s)"}


def losses(history: pd.DataFrame, footnotes: Sequence[str] = ()) -> Figure:
    """Train and test (or validation) loss over the epochs, on one scale."""
    split = evaluated(history)
    figure, axes = _figure(
        history, f"train and {split} loss", "epoch", "loss (cross-entropy, nats)", footnotes
    )
    number = 0
    for curve in curves(history):
        for metric in ("train_loss", f"{split}_loss"):
            label = ", ".join(filter(None, (curve.label, metric.replace("_", " "))))
            _draw(axes, Curve(label, curve.runs), number, "epoch", metric)
            number += 1
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def over(
    history: pd.DataFrame,
    footnotes: Sequence[str] = (),
    *,
    x: str,
    metric: str = "test_accuracy",
) -> Figure:
    """A metric of all runs over `x`: "epoch", "train_seconds" or "wall_seconds".

    One run is drawn as a line, several seeds as their mean with a band from lowest to highest.
    """
    name = metric.replace("_", " ")
    unit = UNITS[metric.rsplit("_", 1)[-1]]
    figure, axes = _figure(history, name, X_LABELS[x], name + unit, footnotes)
    drawn = curves(history)
    for number, curve in enumerate(drawn):
        _draw(axes, curve, number, x, metric)
    if metric.endswith("accuracy"):
        _per_cent(axes, history[metric].max())
    else:
        axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def sensitivity(history: pd.DataFrame, footnotes: Sequence[str] = ()) -> Figure:
    """Best accuracy over the learning rate, a line for each optimizer."""
    split = evaluated(history)
    what = f"best {split} accuracy"
    label = f"{what} (chosen on the test set)" if split == "test" else what
    figure, axes = _figure(history, what, "learning rate", label, footnotes)
    for number, (optimizer, rates) in enumerate(best_by_rate(history).items()):
        colour, style, _ = _look(number)
        axes.plot(rates.index, rates, f"o{style}", color=colour, label=optimizer)
    axes.set_xscale("log")
    axes.margins(x=0.05)
    _per_cent(axes, history[f"{split}_accuracy"].max())
    _legend(figure, axes)
    return figure


# Takes a history and the lines of fairness.differences.
Draw = Callable[[pd.DataFrame, Sequence[str]], Figure]
FIGURES: dict[FigureName, Draw] = {
    "loss_over_epochs": losses,
    "test_accuracy_over_epochs": partial(over, x="epoch"),
    "test_accuracy_over_train_seconds": partial(over, x="train_seconds"),
}


def grid(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Best validation accuracy over the learning rate, for all trainings of a search.

    table: summary.tried of the history.
    """
    what = "best validation accuracy"
    figure, axes = _figure(history, what, "learning rate", what, ())
    kinds = {
        "": "o",
        "chosen": "*",
        "pruned": "o",
        "diverged": "x",
    }  # by the first word of an outcome
    outcomes = table["outcome"].str.partition(" ")[0]
    for number, (optimizer, rows) in enumerate(table.groupby("optimizer")):
        colour, style, _ = _look(number)
        rates, accuracies = rows["learning_rate"], rows["best_validation_accuracy"]
        label = words("optimizer", optimizer)
        for rate, accuracy in zip(
            rates[outcomes == "chosen"], accuracies[outcomes == "chosen"], strict=True
        ):
            label += f": {rate:g}, with {accuracy:.2%}"
        ended = rows["outcome"].isin(["", "chosen"])
        axes.plot(rates[ended], accuracies[ended], style, color=colour, label=label)
        for word, marker in kinds.items():
            axes.plot(
                rates[outcomes == word],
                accuracies[outcomes == word],
                marker,
                color=colour,
                markerfacecolor="white" if word == "pruned" else colour,
                markersize=12 if word == "chosen" else 6,
            )
    for word in ("chosen", "pruned", "diverged"):
        if (outcomes == word).any():
            fill = "white" if word == "pruned" else "0.35"
            axes.plot([], [], kinds[word], color="0.35", markerfacecolor=fill, label=word)
    axes.set_xscale("log")
    axes.margins(x=0.05)
    _per_cent(axes, table["best_validation_accuracy"].max())
    _legend(figure, axes)
    return figure


def _figure(
    history: pd.DataFrame, what: str, x: str, y: str, footnotes: Sequence[str]
) -> tuple[Figure, Axes]:
    """An empty figure whose title names what all runs have in common.

    footnotes: lines of fairness.differences; only their names are shown.
    """
    # Without pyplot, which keeps every figure and may need a display.
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    model = " in ".join(in_common(history, ("model", "framework")))
    subject = " on ".join(part for part in (model, *in_common(history, ("dataset",))) if part)
    settings = in_common(history, SETTINGS)
    if history["seed"].nunique() > 1:
        settings.append("lines: mean of the seeds, bands: their range")
    below = textwrap.fill(", ".join(settings), LINE)
    if footnotes:
        different = ", ".join(note.partition(":")[0] for note in footnotes)
        below += "\n" + textwrap.fill(f"also different: {different}", LINE)
    title = textwrap.fill(f"{subject}: {what}" if subject else what, TITLE_LINE)
    # Text of the store is no mathematics, even with "$" in it.
    pad = 8 + 13 * (1 + below.count("\n"))
    axes.set_title(title, loc="left", pad=pad, parse_math=False)
    grey: dict[str, Any] = {"size": "small", "color": "0.35", "parse_math": False}
    # Outside the layout, because a long line would leave no room for the axes.
    axes.text(0, 1.02, below, transform=axes.transAxes, in_layout=False, **grey)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _look(number: int) -> tuple[str, str, str]:
    """Colour, style and marker of a curve: 112 different combinations."""
    both = len(COLOURS) * len(STYLES)
    return (
        COLOURS[number % len(COLOURS)],
        STYLES[number % len(STYLES)],
        MARKERS[number // both % len(MARKERS)],
    )


def _per_cent(axes: Axes, highest: float) -> None:
    """Set the y-axis to per cent, from 0 to the next multiple of 10 above `highest`."""
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(0, min(1, math.ceil(10 * min(highest, 1) + 0.2) / 10) if highest > 0 else 1)


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the axes, and enlarge the figure by its rows."""
    handles = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    if handles:
        names = [str(line.get_label()) for line in handles]
        columns = 2 if max(map(len, names)) < 50 else 1
        labels = [textwrap.fill(name, LINE) for name in names]
        rows = -(-len(handles) // columns) + sum(label.count("\n") for label in labels)
        figure.set_figheight(5 + 0.2 * max(0, rows - 3))
        look: dict[str, Any] = {"frameon": False, "fontsize": "small", "ncols": columns}
        legend = figure.legend(handles, labels, loc="outside lower left", **look)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _draw(axes: Axes, curve: Curve, number: int, x: str, metric: str) -> None:
    """Draw a curve up to the last epoch that all its seeds reached without diverging."""
    colour, style, marker = _look(number)
    seeds = len(curve.runs)
    counted = sum(map(ended, curve.runs))
    rows = curve.rows[["epoch", metric]].assign(x=curve.rows[x])
    by_epoch = rows.groupby("epoch")
    complete = (by_epoch[metric].count() == seeds) & (by_epoch["x"].count() == seeds)
    xs, ys = by_epoch["x"].mean()[complete], by_epoch[metric].mean()[complete]
    label = curve.label
    if label and metric.endswith("accuracy") and counted == seeds and complete.iloc[-1]:
        label += f": {ys.iloc[-1]:.2%} at the end"
    if seeds > 1:
        label += f" (n = {counted})" if counted == seeds else f" (n = {counted} of {seeds})"
        lowest, highest = by_epoch[metric].min()[complete], by_epoch[metric].max()[complete]
        axes.fill_between(xs, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    if stopped := [run["epoch"].iloc[-1] for run in curve.runs if unfinished(run)]:
        label += f" (unfinished, epoch {min(stopped)} of {curve.runs[0]['epochs'].iloc[0]})"
    ends = [epoch for run in curve.runs if (epoch := diverged_epoch(run)) is not None]
    if ends:
        label += f" (diverged in epoch {min(ends)})"
        axes.plot(xs.iloc[-1:], ys.iloc[-1:], "x", color=colour, markersize=10, clip_on=False)
    if not (stopped or ends or complete.any()):
        label += " (nothing to draw)"
    # matplotlib leaves labels that begin with "_" out of the legend.
    if len(xs) == 1:
        marker = marker or "o"  # a line of one point is invisible
    axes.plot(xs, ys, style, marker=marker, color=colour, label=label.strip() or "_")
