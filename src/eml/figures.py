"""The figures, drawn from a history."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from eml.compare import Curve, curves, diverged_epoch, in_common, unfinished, words

# Okabe and Ito's colours, which the colour-blind can tell apart; the styles do it in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
X_LABELS = {
    "epoch": "epoch",
    "train_seconds": "training time (s)",
    "wall_seconds": "time since the data were loaded (s)",
}
SETTINGS = ("device_type", "optimizer", "learning_rate", "batch_size", "seed", "subset", "dtype")
UNITS = {"loss": " (cross-entropy, nats)", "accuracy": "", "second": "", "seconds": " (s)"}


def losses(history: pd.DataFrame, footnotes: Sequence[str] = ()) -> Figure:
    """Train and test loss over the epochs, on one scale."""
    figure, axes = _figure(history, "train and test loss", "epoch", "loss (cross-entropy, nats)")
    number = 0
    for curve in curves(history):
        for metric in ("train_loss", "test_loss"):
            label = ", ".join(filter(None, (curve.label, metric.replace("_", " "))))
            _draw(axes, Curve(label, curve.runs), number, "epoch", metric)
            number += 1
    axes.set_ylim(bottom=0)
    _finish(figure, axes, footnotes)
    return figure


def over(
    history: pd.DataFrame,
    footnotes: Sequence[str] = (),
    *,
    x: str,
    metric: str = "test_accuracy",
) -> Figure:
    """A metric of all runs over `x`: "epoch", "train_seconds" or "wall_seconds".

    One run is a line; several seeds are their mean, with a band from the lowest to the highest.
    """
    name = metric.replace("_", " ")
    unit = UNITS[metric.rsplit("_", 1)[-1]]
    figure, axes = _figure(history, name, X_LABELS[x], name + unit)
    drawn = curves(history)
    for number, curve in enumerate(drawn):
        _draw(axes, curve, number, x, metric)
    if metric.endswith("accuracy"):
        _per_cent(axes, history[metric].max())
    else:
        axes.set_ylim(bottom=0)
    _finish(figure, axes, footnotes)
    return figure


def sensitivity(history: pd.DataFrame, footnotes: Sequence[str] = ()) -> Figure:
    """Best test accuracy over the learning rate, a line for each optimizer."""
    figure, axes = _figure(history, "best test accuracy", "learning rate", "best test accuracy")
    for number, (optimizer, rates) in enumerate(best_by_rate(history).items()):
        style = STYLES[number % len(STYLES)]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            rates.index, rates, f"o{style}", color=colour, label=words("optimizer", optimizer)
        )
    axes.set_xscale("log")
    axes.margins(x=0.05)
    _per_cent(axes, history["test_accuracy"].max())
    _finish(figure, axes, footnotes)
    return figure


def best_by_rate(history: pd.DataFrame) -> dict[str, pd.Series]:
    """By optimizer: the best test accuracy, mean over runs, by learning rate, ascending.

    Of optimizers with at least two rates. A run that diverged counts as 0: its rate failed.
    """
    best = history.groupby(["optimizer", "learning_rate", "run_id"])["test_accuracy"].max()
    ended = history.groupby(["optimizer", "learning_rate", "run_id"]).tail(1)
    failed = set(ended.loc[ended["test_loss"].isna(), "run_id"])
    best = best.where(~best.index.get_level_values("run_id").isin(failed), 0.0)
    means = best.groupby(["optimizer", "learning_rate"]).mean()
    by_optimizer = {name: means[name] for name in means.index.get_level_values(0).unique()}
    return {name: rates for name, rates in by_optimizer.items() if len(rates) > 1}


def _figure(history: pd.DataFrame, what: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure; its title says what all runs have in common."""
    # Not pyplot, which keeps every figure and may want a display.
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    model = " in ".join(in_common(history, ("model", "framework")))
    subject = " on ".join(part for part in (model, *in_common(history, ("dataset",))) if part)
    settings = in_common(history, SETTINGS)
    axes.set_title(f"{subject}: {what}" if subject else what, loc="left", pad=20)
    if history["seed"].nunique() > 1:
        settings.append("lines: mean of the seeds, bands: their range")
    axes.text(0, 1.02, ", ".join(settings), transform=axes.transAxes, size="small", color="0.35")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _per_cent(axes: Axes, highest: float) -> None:
    """An axis in per cent, from 0 to the next 10 above the highest fraction."""
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(0, min(1, math.ceil(10 * highest + 0.2) / 10) if highest > 0 else 1)


def _finish(figure: Figure, axes: Axes, lines: Sequence[str]) -> None:
    """The legend, below the axes so that it hides no curve, and the footnotes."""
    labelled = [handle for handle in axes.lines if not handle.get_label().startswith("_")]
    if labelled:
        columns = 2 if max(len(handle.get_label()) for handle in labelled) < 50 else 1
        figure.legend(
            handles=labelled,
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            fontsize="small",
        )
    if lines:
        text = "\n".join(["Also different:", *lines])
        figure.supxlabel(text, x=0.01, ha="left", size="x-small", color="0.35", wrap=True)


def _draw(axes: Axes, curve: Curve, number: int, x: str, metric: str) -> None:
    """A curve; it ends with the last epoch that all of its seeds reached without diverging."""
    colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
    seeds = len(curve.runs)
    by_epoch = curve.rows.groupby("epoch")
    complete = by_epoch[metric].count() == seeds
    xs, ys = by_epoch[x].mean()[complete], by_epoch[metric].mean()[complete]
    label = curve.label
    if label and metric.endswith("accuracy") and complete.iloc[-1]:
        label += f": {ys.iloc[-1]:.2%} at the end"
    if seeds > 1:
        label += f" (n = {seeds})"
        lowest, highest = by_epoch[metric].min()[complete], by_epoch[metric].max()[complete]
        axes.fill_between(xs, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    if stopped := [run["epoch"].iloc[-1] for run in curve.runs if unfinished(run)]:
        label += f" (unfinished, epoch {min(stopped)} of {curve.runs[0]['epochs'].iloc[0]})"
    ends = [epoch for run in curve.runs if (epoch := diverged_epoch(run)) is not None]
    if ends:
        label += f" (diverged in epoch {min(ends)})"
        axes.plot(xs.iloc[-1:], ys.iloc[-1:], "x", color=colour, markersize=10, clip_on=False)
    # A label that begins with "_" has no entry in the legend.
    axes.plot(xs, ys, style, color=colour, label=label.strip() or "_")
