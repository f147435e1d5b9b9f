"""The look of all figures: canvas, colours, ticks, captions, legend."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eml.analysis.comparison import Comparison
from eml.analysis.fairness import differences
from eml.config import Config

# Okabe and Ito's colours work for the colour-blind, the line styles in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
ORDERED = "viridis_r"  # from light to dark, also in grey
NUMERIC = {field.name for field in fields(Config) if field.type is not str}
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
LINE = 100
TITLE_LINE = 75


def looks(varying: Sequence[str], count: int) -> list[dict[str, Any]]:
    """A look for each of `count` curves: ordered shades where a single number varies."""
    if len(varying) == 1 and varying[0] in NUMERIC:
        shades = mpl.colormaps[ORDERED](np.linspace(0.15, 1, count))
        return [{"color": mpl.colors.to_hex(shade), "linestyle": "-"} for shade in shades]
    pairs = zip(cycle(COLOURS), cycle(STYLES), range(count), strict=False)
    return [{"color": colour, "linestyle": style} for colour, style, _ in pairs]


def canvas(
    comparison: Comparison, what: str, x: str, y: str, panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """An empty figure whose title names what all runs have in common.

    panels: one, or two above each other with the same x-axis.
    """
    # Without pyplot, which keeps every figure and may need a display.
    figure = Figure(figsize=(8, 5 + 2.5 * (panels - 1)), layout="constrained")
    ratios = [3, 2][:panels]
    all_axes = figure.subplots(panels, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    top, lines = all_axes[0], _caption(comparison)
    model = " in ".join(comparison.in_common(("model", "framework")))
    subject = " on ".join(filter(None, (model, *comparison.in_common(("dataset",)))))
    title = ". ".join(filter(None, (comparison.exercise, ": ".join(filter(None, (subject, what))))))
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


def _caption(comparison: Comparison) -> list[str]:
    """The lines below the title: settings in common, what else differs, what has no counterpart."""
    settings = comparison.in_common(SETTINGS)
    if len({training.values["seed"] for training in comparison.trainings}) > 1:
        settings.append("lines: mean of the seeds, bands: their range")
    different = ", ".join(line.partition(":")[0] for line in differences(comparison))
    texts = [
        ", ".join(settings),
        f"also different: {different}" if different else "",
        comparison.alone,
    ]
    return [line for text in texts for line in textwrap.wrap(text, LINE)]


def per_cent(axes: Axes) -> None:
    """Label the y-axis in per cent, at round values."""
    axes.yaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def from_zero(axes: Axes, highest: float) -> None:
    """Per cent, from 0 to the next multiple of 10 above `highest`."""
    per_cent(axes)
    axes.set_ylim(0, min(1, math.ceil(10 * min(highest, 1) + 0.2) / 10) if highest > 0 else 1)


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the axes, and enlarge the figure by its rows."""
    handles = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    if handles:
        names = [str(line.get_label()) for line in handles]
        columns = 2 if max(map(len, names)) < 50 else 1
        labels = [textwrap.fill(name, LINE) for name in names]
        rows = -(-len(handles) // columns) + sum(label.count("\n") for label in labels)
        figure.set_figheight(figure.get_figheight() + 0.2 * max(0, rows - 3))
        look: dict[str, Any] = {"frameon": False, "fontsize": "small", "ncols": columns}
        figure.legend(handles, labels, loc="outside lower left", **look)
