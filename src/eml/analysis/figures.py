"""Draws the figures from a history."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from eml.analysis.curves import Curve, curves, evaluated, over_seeds
from eml.analysis.labels import words
from eml.analysis.options import CRITERIA, X_LABELS, FigureName
from eml.analysis.style import (
    FEW,
    Caption,
    Look,
    apart,
    canvas,
    chance_line,
    from_zero,
    legend,
    looks,
    name_ends,
    note_at,
    per_cent,
    rates_axis,
    zoom,
)
from eml.analysis.summary import by_rate

UNITS = {"loss": " (cross-entropy, nats)", "accuracy": "", "second": "", "seconds": " (s)"}
PLAIN = Caption()
MOST = 20  # curves that are coloured, and named in the legend


def losses(history: pd.DataFrame, caption: Caption = PLAIN) -> Figure:
    """Train and test (or validation) loss over the epochs, on one scale."""
    split = evaluated(history)
    what, unit = f"train and {split} loss", UNITS["loss"]
    figure, (axes,) = canvas(history, what, "epoch", f"loss{unit}", caption)
    drawn = curves(history)
    metrics = ("train_loss", f"{split}_loss")
    tables = {name: [over_seeds(curve, "epoch", name) for curve in drawn] for name in metrics}
    shown, others = best(tables[f"{split}_loss"], highest=False)
    each = looks(history, len(shown) if len(drawn) > 1 else 2)
    _draw_in_grey(axes, [tables[name][i] for name in metrics for i in others], "losses")
    for number, i in enumerate(shown):
        for second, metric in enumerate(metrics):
            # One curve has a colour for each loss, several have a line style for each loss.
            look = Look(each[number].colour, "-" if not second else "--")
            if len(drawn) == 1:
                look = each[second]
            name = metric.replace("_", " ")
            label = ", ".join(filter(None, (drawn[i].label, name)))
            _draw(axes, Curve(label, drawn[i].trainings), tables[metric][i], look, metric)
    axes.set_ylim(bottom=0)
    legend(figure, axes)
    return figure


def over(
    history: pd.DataFrame,
    caption: Caption = PLAIN,
    *,
    x: str,
    metric: str = "test_accuracy",
) -> Figure:
    """A metric of all runs over `x`: "epoch", "train_seconds" or "wall_seconds".

    One run is drawn as a line, several seeds as their mean with a band from lowest to highest. Of
    more than MOST curves the best are coloured. Where these end close to the best one, a second
    panel shows their ends.
    """
    name = metric.replace("_", " ")
    unit = UNITS[metric.rsplit("_", 1)[-1]]
    drawn = curves(history)
    tables = [over_seeds(curve, x, metric) for curve in drawn]
    is_accuracy = metric.endswith("accuracy")
    shown, others = best(tables, highest=is_accuracy or metric == "images_per_second")
    each = dict(zip(shown, looks(history, len(shown)), strict=True))
    last = {i: tables[i].iloc[-1] for i in shown if len(tables[i])}
    ends = [row["mean"] for row in last.values()]
    highest = history[metric].max()
    height = min(highest, 1) if is_accuracy else highest
    near = []
    if metric.endswith(("accuracy", "loss")) and ends:
        near = [list(last)[i] for i in zoom(ends, (max if is_accuracy else min)(ends), height)]
    figure, panels = canvas(history, name, X_LABELS[x], name + unit, caption, 2 if near else 1)
    for axes in panels:
        _draw_in_grey(axes, [tables[i] for i in others], "curves")
        for i in shown:
            _draw(axes, drawn[i], tables[i], each[i], metric)
        axes.set_xlim(left=0)
    if is_accuracy:
        from_zero(panels[0], highest)
    else:
        panels[0].set_ylim(bottom=0)
    if near:
        _zoom_in(panels[1], [tables[i] for i in near], is_accuracy)
    elif len(drawn) > 1:
        named = [(row["x"], row["mean"], drawn[i].label, each[i]) for i, row in last.items()]
        name_ends(panels[0], named, height)
    legend(figure, panels[0])
    return figure


def sensitivity(
    history: pd.DataFrame, caption: Caption = PLAIN, criterion: str = CRITERIA[0]
) -> Figure:
    """Accuracy over the learning rate, a line for each optimizer."""
    split = evaluated(history)
    what = accuracy_by(criterion, split)
    label = f"{what}\n(chosen on the test set)" if split == "test" and criterion == "best" else what
    figure, (axes,) = canvas(history, what, "learning rate", label, caption)
    lines = by_rate(history, criterion)
    # Not the shades of learning rates: here a line is an optimizer.
    each = looks(history.assign(learning_rate=0.0), len(lines))
    for number, (name, rates) in enumerate(lines.items()):
        look = each[number]
        x = rates.index * apart(number, len(lines))
        axes.plot(x, rates, f"o{look.style}", color=look.colour, label=name)
    rates_axis(axes, history["learning_rate"])
    from_zero(axes, max(rates.max() for rates in lines.values()))
    chance_line(axes)
    legend(figure, axes)
    return figure


def accuracy_by(criterion: str, split: str) -> str:
    """The number that trainings are judged by, in words."""
    return f"best {split} accuracy" if criterion == "best" else f"final {split} accuracy"


# Takes a history and a caption.
Draw = Callable[[pd.DataFrame, Caption], Figure]
FIGURES: dict[FigureName, Draw] = {
    "loss_over_epochs": losses,
    "test_accuracy_over_epochs": partial(over, x="epoch"),
    "test_accuracy_over_train_seconds": partial(over, x="train_seconds"),
}


def grid(
    history: pd.DataFrame,
    table: pd.DataFrame,
    caption: Caption = PLAIN,
    criterion: str = CRITERIA[0],
) -> Figure:
    """Validation accuracy over the learning rate, for all trainings of a search.

    table: summary.tried of the history.
    """
    what = accuracy_by(criterion, "validation")
    figure, (axes,) = canvas(history, what, "learning rate", what, caption)
    # By the first word of an outcome.
    kinds = {"": "o", "chosen": "*", "tied": "D", "pruned": "o", "diverged": "x"}
    outcomes = table["outcome"].str.partition(" ")[0]
    groups = list(table.groupby("optimizer"))
    each = looks(history.assign(learning_rate=0.0), len(groups))
    for number, (optimizer, rows) in enumerate(groups):
        colour = each[number].colour
        of = outcomes[rows.index]
        accuracies = rows["validation_accuracy"]
        rates = rows["learning_rate"] * apart(number, len(groups))
        label = words("optimizer", optimizer)
        for _, row in rows[of == "chosen"].iterrows():
            label += f": {row['learning_rate']:g}, with {row['validation_accuracy']:.2%}"
        whole = of.isin(["", "chosen", "tied"])
        axes.plot(rates[whole], accuracies[whole], each[number].style, color=colour, label=label)
        for word, marker in kinds.items():
            axes.plot(
                rates[of == word],
                accuracies[of == word],
                marker,
                color=colour,
                markerfacecolor="white" if word == "pruned" else colour,
                markersize=12 if word == "chosen" else 6,
            )
    for word in kinds:
        if word and (outcomes == word).any():
            fill = "white" if word == "pruned" else "0.35"
            axes.plot([], [], kinds[word], color="0.35", markerfacecolor=fill, label=word)
    rates_axis(axes, table["learning_rate"])
    from_zero(axes, table["validation_accuracy"].max())
    chance_line(axes)
    legend(figure, axes)
    return figure


def best(tables: Sequence[pd.DataFrame], highest: bool) -> tuple[list[int], list[int]]:
    """The numbers of the MOST curves that end best, and of all others, both in their order.

    tables: curves.over_seeds of each curve. highest: whether a higher end is better.
    """
    worst = -math.inf if highest else math.inf
    ends = [table["mean"].iloc[-1] if len(table) else worst for table in tables]
    ranked = sorted(range(len(ends)), key=ends.__getitem__, reverse=highest)
    return sorted(ranked[:MOST]), sorted(ranked[MOST:])


def _draw_in_grey(axes: Axes, tables: Sequence[pd.DataFrame], what: str) -> None:
    if not tables:
        return
    grey: dict[str, Any] = {"color": "0.8", "linewidth": 0.6}
    curves = [np.column_stack((table["x"], table["mean"])) for table in tables]
    axes.add_collection(LineCollection(curves, zorder=1, **grey))
    axes.plot([], [], label=f"{len(tables)} other {what}", **grey)


def _zoom_in(axes: Axes, tables: list[pd.DataFrame], is_accuracy: bool) -> None:
    """Set the y-axis to where these curves end."""
    ends = pd.concat([table[["mean", "lowest", "highest"]].iloc[-1] for table in tables])
    low, high = ends.min(), ends.max()
    pad = 0.3 * (high - low) or 0.01 * high or 0.01
    axes.set_ylim(low - pad, high + pad)
    axes.set_ylabel("the ends, enlarged")
    if is_accuracy:
        per_cent(axes)


def _draw(axes: Axes, curve: Curve, table: pd.DataFrame, look: Look, metric: str) -> None:
    """Draw a curve, each seed as far as its run goes. table: curves.over_seeds of the curve."""
    xs, ys = table["x"], table["mean"]
    seeds, planned = len(curve.trainings), curve.values["epochs"]
    label = curve.label
    complete = any(each.complete for each in curve.trainings)
    at_the_end = complete and len(table) and table.index[-1] == planned
    if metric.endswith("accuracy") and at_the_end:
        label = f"{label or metric.replace('_', ' ')}: {ys.iloc[-1]:.2%} at the end"
    if seeds > 1:
        label += f" (n = {seeds})"
        for epoch in table.index[table["n"].diff() < 0]:
            text = f"n = {table['n'][epoch]}"
            note_at(axes, text, (xs[epoch], ys[epoch]), (2, -8), look.colour)
    of_them = f"{{}} of {seeds} " if seeds > 1 else ""
    if stopped := [each.last_epoch for each in curve.trainings if each.unfinished]:
        label += f" ({of_them.format(len(stopped))}unfinished, epoch {min(stopped)} of {planned})"
    if ends := curve.diverged:
        label += f" ({of_them.format(len(ends))}diverged in epoch {', '.join(map(str, ends))})"
    if table.empty and not (stopped or ends):
        label += " (nothing to draw)"
    label = label.strip() or metric.replace("_", " ")
    marker = look.marker or ("o" if len(xs) <= FEW else "")
    axes.plot(xs, ys, look.style, marker=marker, markersize=4, color=look.colour, label=label)
    # With "_" it is part of the curve, and not in the legend.
    part: dict[str, Any] = {"color": look.colour, "label": f"_{label}"}
    if seeds > 1:
        axes.fill_between(xs, table["lowest"], table["highest"], alpha=0.2, linewidth=0, **part)
    if last := [epoch - 1 for epoch in ends if epoch - 1 in table.index]:
        axes.plot(xs[last], ys[last], "x", markersize=10, **part)
