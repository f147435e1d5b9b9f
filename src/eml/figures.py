"""The figures, drawn from a history."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from eml.compare import Curve, curves, diverged_epoch, in_common

# Okabe and Ito's colours, which the colour-blind can tell apart; the styles do it in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
X_LABELS = {
    "epoch": "epoch",
    "train_seconds": "training time (s)",
    "wall_seconds": "time since the data were loaded (s)",
}


def losses(history: pd.DataFrame) -> Figure:
    """Train and test loss of one run over the epochs, on one scale."""
    figure, axes = _figure(history, "train and test loss", "epoch", "cross-entropy (nats)")
    for number, metric in enumerate(("train_loss", "test_loss")):
        _draw(axes, Curve(metric.replace("_", " "), [history]), number, "epoch", metric)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def accuracy(history: pd.DataFrame, x: str) -> Figure:
    """Test accuracy of all runs over `x`: "epoch", "train_seconds" or "wall_seconds"."""
    figure, axes = _figure(history, "test accuracy", X_LABELS[x], "test accuracy")
    drawn = curves(history)
    for number, curve in enumerate(drawn):
        _draw(axes, curve, number, x, "test_accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(0, 1)
    if len(drawn) > 1:
        axes.legend(frameon=False, loc="lower right")
    return figure


def _figure(history: pd.DataFrame, what: str, x: str, y: str) -> tuple[Figure, Axes]:
    """An empty figure; its title says what all runs have in common."""
    # Not pyplot, which keeps every figure and may want a display.
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    subject = " on ".join(
        " in ".join(in_common(history, names)) for names in (("model", "framework"), ("dataset",))
    )
    settings = in_common(history, ("optimizer", "learning_rate", "batch_size", "seed", "subset"))
    axes.set_title(f"{subject}: {what}", loc="left", pad=20)
    axes.text(0, 1.02, ", ".join(settings), transform=axes.transAxes, size="small", color="0.35")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw(axes: Axes, curve: Curve, number: int, x: str, metric: str) -> None:
    """One run as a line; several seeds as their mean, with a band from lowest to highest.

    The line ends with the first epoch that one of the seeds did not reach or diverged in.
    """
    colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
    seeds = len(curve.runs)
    by_epoch = pd.concat(curve.runs).groupby("epoch")
    complete = by_epoch[metric].count() == seeds
    xs, ys = by_epoch[x].mean()[complete], by_epoch[metric].mean()[complete]
    label = curve.label
    if label and metric == "test_accuracy" and complete.all():
        label += f": {ys.iloc[-1]:.2%} at the end"
    if seeds > 1:
        label += f" (mean of {seeds} seeds, band: lowest to highest)"
        lowest, highest = by_epoch[metric].min()[complete], by_epoch[metric].max()[complete]
        axes.fill_between(xs, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    ends = [epoch for run in curve.runs if (epoch := diverged_epoch(run)) is not None]
    if ends:
        label += f" (diverged in epoch {min(ends)})"
        axes.plot(xs.iloc[-1:], ys.iloc[-1:], "x", color=colour, markersize=10, clip_on=False)
    axes.plot(xs, ys, style, color=colour, label=label)
