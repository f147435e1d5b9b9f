"""Figures and tables of measured convolutions, from the frame of tracking/measurements.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from eml.analysis.report import write_figures
from eml.analysis.style import COLOURS, STYLES, Look, legend
from eml.analysis.tables import markdown

MIB = 2**20
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE = ("direct", "product alone")  # algorithms in grey
TITLE = "2.1 Reading. Convolutions"


def rate_over_batch_size(frame: pd.DataFrame) -> Figure:
    """GFLOP/s over the batch size, with the quartiles of the rounds as a band."""

    def draw(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
        flop = rows["gflop_per_second"] * rows["seconds"]
        band = flop / rows["seconds_high"], flop / rows["seconds_low"]
        axes.fill_between(rows["batch_size"], *band, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(rows["batch_size"], rows["gflop_per_second"], **_line(look))

    what = "rate (median of the rounds, band: their quartiles)"
    figure = _over_batch_size(frame, what, "GFLOP/s", draw)
    gemm = (frame["gflop_per_second"] / frame["share_of_gemm"]).median()
    for axes in figure.axes:
        axes.axhline(gemm, color="0.6", linewidth=1, label="GEMM (square matrices)")
        axes.set_ylim(bottom=0)
    legend(figure, figure.axes[0])
    return figure


def memory_over_batch_size(frame: pd.DataFrame) -> Figure:
    """Memory besides inputs and result at its peak, over the batch size."""

    def draw(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
        axes.plot(rows["batch_size"], rows["extra_bytes"] / MIB, **_line(look))

    counted = frame.dropna(subset="extra_bytes")
    figure = _over_batch_size(
        counted, "memory besides inputs and result, at its peak,", "MiB", draw
    )
    for axes in figure.axes:
        axes.set_yscale("symlog", linthresh=0.1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(bottom=-0.01)
    legend(figure, figure.axes[0])
    return figure


def share_of_gemm(frame: pd.DataFrame) -> Figure:
    """Each algorithm's rate at its largest batch, divided by GEMM's; a panel for each layer."""
    frame = at_largest_batch(_labelled(frame))
    algorithms, layers = list(frame["label"].unique()), list(frame["layer"].unique())
    figure = Figure(figsize=(2 + 2.6 * len(layers), 1.5 + 0.4 * len(algorithms)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(layers), sharex=True, sharey=True, squeeze=False)[0]
    for axes, layer in zip(panels, layers, strict=True):
        rows = frame[frame["layer"] == layer]
        for number, (name, each) in enumerate(rows.groupby("pass_name", sort=False)):
            places = [algorithms.index(label) + 0.2 * (number - 1) for label in each["label"]]
            look = {"color": COLOURS[number], "label": str(name).replace("_", " ")}
            axes.plot(each["share_of_gemm"], places, MARKERS[number], **look)
        axes.set_title(f"{layer}, N = {rows['batch_size'].max()}", loc="left", parse_math=False)
        axes.axvline(1, color="0.6", linewidth=1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.set_axisbelow(True)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    names = [_with_batch(frame, label) for label in algorithms]
    panels[0].set_yticks(range(len(algorithms)), names, parse_math=False)
    panels[0].invert_yaxis()
    panels[0].set_xlim(left=0)
    _title(figure, frame, "share of GEMM's rate")
    legend(figure, panels[0])
    return figure


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "rate_over_batch_size": rate_over_batch_size,
    "memory_over_batch_size": memory_over_batch_size,
    "share_of_gemm": share_of_gemm,
}


def write_convolutions(frame: pd.DataFrame, folder: Path, pdf: bool = False) -> str:
    """Write the figures, and all measurements as CSV and Markdown, into `folder`.

    Returns the Markdown: a table for each layer, at its largest batch. pdf: as for write_figures().
    """
    write_figures({name: draw(frame) for name, draw in FIGURES.items()}, folder, pdf)
    frame.to_csv(folder / "convolutions.csv", index=False)
    parts = [f"{TITLE}: {_where(frame)}\n"]
    for layer, rows in at_largest_batch(_labelled(frame)).groupby("layer", sort=False):
        parts.append(f"## {layer}, {rows['batch_size'].max()} images\n\n{_table(rows)}")
    parts.append("Rates in GFLOP/s and as a share of GEMM's, extra memory in MiB.\n")
    text = "\n".join(parts)
    (folder / "convolutions.md").write_text(text, encoding="utf-8")
    return text


def at_largest_batch(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest batch size that an algorithm was measured on, of each layer."""
    largest = frame.groupby(["layer", "label"])["batch_size"].transform("max")
    return frame[frame["batch_size"] == largest]


def _with_batch(frame: pd.DataFrame, label: str) -> str:
    """An algorithm's label, with its largest batch if others have a larger one."""
    largest = frame.loc[frame["label"] == label, "batch_size"].max()
    return label if largest == frame["batch_size"].max() else f"{label} (N = {largest})"


def _table(rows: pd.DataFrame) -> str:
    """One row for each algorithm, with rate, share and memory of each pass."""
    lines = []
    for label, each in rows.groupby("label", sort=False):
        line = {"algorithm": _with_batch(rows, str(label))}
        for row in each.to_dict("records"):
            name = row["pass_name"].replace("_", " ")
            line[name] = f"{row['gflop_per_second']:.3g} ({row['share_of_gemm']:.0%})"
            extra = row["extra_bytes"]
            line[f"{name}, MiB"] = "" if pd.isna(extra) else f"{extra / MIB:.1f}"
        error = each["error"].max()
        line["largest error"] = "" if pd.isna(error) else f"{error:.1g}"
        lines.append(line)
    table = pd.DataFrame(lines).fillna("")
    table["largest error"] = table.pop("largest error")  # the last column
    return markdown(table)


def _over_batch_size(
    frame: pd.DataFrame, what: str, unit: str, draw: Callable[[Axes, pd.DataFrame, Look], None]
) -> Figure:
    """A panel for each pass (down) and layer (across); draw: called for each curve."""
    frame = _labelled(frame)
    passes, layers = list(frame["pass_name"].unique()), list(frame["layer"].unique())
    figure = Figure(figsize=(1 + 2.8 * len(layers), 1.5 + 2.2 * len(passes)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(passes), len(layers), sharex=True, sharey=True, squeeze=False)
    labels = list(frame["label"].unique())
    looks = dict(zip(labels, _looks(labels), strict=True))
    for label, look in looks.items():  # the legend is that of the first panel
        panels[0, 0].plot([], [], label=label, **_line(look))
    sizes = sorted(frame["batch_size"].unique())
    for name, across in zip(passes, panels, strict=True):
        for layer, axes in zip(layers, across, strict=True):
            rows = frame[(frame["pass_name"] == name) & (frame["layer"] == layer)]
            for label, each in rows.groupby("label", sort=False):
                draw(axes, each, looks[label])
            axes.set_title(f"{layer}, {name.replace('_', ' ')}", loc="left", fontsize="medium")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(sizes))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
        across[0].set_ylabel(unit)
    for axes in panels[-1]:
        axes.set_xlabel("batch size N")
    _title(figure, frame, f"{what} over batch size")
    return figure


def _looks(labels: list[str]) -> list[Look]:
    """A look for each curve; grey for what is there for reference."""
    reference = [label for label in labels if label.startswith(REFERENCE)]
    greys = iter([Look("0.45", "-", "|"), Look("0.45", ":")] * len(reference))
    numbers = iter(range(len(labels)))
    return [next(greys) if label in reference else _coloured(next(numbers)) for label in labels]


def _coloured(number: int) -> Look:
    count = len(COLOURS)
    return Look(COLOURS[number % count], STYLES[number // count % 4], MARKERS[number % count])


def _line(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour,
        "linestyle": look.style,
        "marker": look.marker,
        "markersize": 4,
    }


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the column `label`: the algorithm, and the hardware if there are several."""
    label = frame["algorithm"]
    if frame["hardware"].nunique() > 1:
        label = label + ", " + frame["hardware"]
    return frame.assign(label=label)


def _where(frame: pd.DataFrame) -> str:
    """The hardware in words."""
    seen = frame[["hardware", "threads"]].drop_duplicates().to_dict("records")
    return "; ".join(f"{row['hardware']}, {row['threads']} threads" for row in seen)


def _title(figure: Figure, frame: pd.DataFrame, what: str) -> None:
    title = f"{TITLE}: {what}\nfloat32, {_where(frame)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium", parse_math=False)
