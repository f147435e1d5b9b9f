"""Figures and tables of measured convolutions, from a frame with a row for each measurement.

Its columns are layer, the fields of measure.Measurement, hardware and threads.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

MIB = 2**20
# Okabe and Ito's colours work for the colour-blind, the markers in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCES = {"direct": ("0.45", "-", "|"), "product alone": ("0.45", ":", "")}  # in grey


def rate_over_batch_size(frame: pd.DataFrame) -> Figure:
    """GFLOP/s over the batch size, with the quartiles of the rounds as a band."""

    def draw(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
        flop = rows["gflop_per_second"] * rows["seconds"]
        band = flop / rows["seconds_high"], flop / rows["seconds_low"]
        axes.fill_between(rows["batch_size"], *band, color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(rows["batch_size"], rows["gflop_per_second"], **look)

    what = "rate (median of the rounds, band: their quartiles)"
    figure = _over_batch_size(frame, what, "GFLOP/s", draw)
    gemm = (frame["gflop_per_second"] / frame["share_of_gemm"]).median()
    for axes in figure.axes:
        axes.axhline(gemm, color="0.6", linewidth=1, label="GEMM (square matrices)")
        axes.set_ylim(bottom=0)
    _legend(figure)
    return figure


def memory_over_batch_size(frame: pd.DataFrame) -> Figure:
    """Memory besides inputs and result at its peak, over the batch size."""

    def draw(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
        axes.plot(rows["batch_size"], rows["extra_bytes"] / MIB, **look)

    counted = frame.dropna(subset="extra_bytes")
    what = "memory besides inputs and result, at its peak,"
    figure = _over_batch_size(counted, what, "MiB", draw)
    for axes in figure.axes:
        axes.set_yscale("symlog", linthresh=0.1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(bottom=-0.01)
    _legend(figure)
    return figure


def share_of_gemm(frame: pd.DataFrame) -> Figure:
    """Each algorithm's rate at its largest batch, divided by GEMM's; a panel for each layer."""
    passes = frame["pass_name"].unique()
    frame = at_largest_batch(frame)
    algorithms, layers = list(frame["algorithm"].unique()), list(frame["layer"].unique())
    figure = Figure((2 + 2.6 * len(layers), 1.5 + 0.4 * len(algorithms)), layout="constrained")
    panels = figure.subplots(1, len(layers), sharex=True, sharey=True, squeeze=False)[0]
    for axes, layer in zip(panels, layers, strict=True):
        rows = frame[frame["layer"] == layer]
        for number, name in enumerate(passes):
            points = rows[rows["pass_name"] == name]
            places = [algorithms.index(a) + 0.2 * (number - 1) for a in points["algorithm"]]
            look = {"color": COLOURS[number], "label": name.replace("_", " ")}
            axes.plot(points["share_of_gemm"], places, MARKERS[number], **look)
        axes.set_title(f"{layer}, N = {rows['batch_size'].max()}", loc="left")
        axes.axvline(1, color="0.6", linewidth=1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.set_axisbelow(True)
        _clean(axes)
    panels[0].set_yticks(range(len(algorithms)), [_with_batch(frame, a) for a in algorithms])
    panels[0].invert_yaxis()
    panels[0].set_xlim(left=0)
    _title(figure, frame, "share of GEMM's rate")
    _legend(figure)
    return figure


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "rate_over_batch_size": rate_over_batch_size,
    "memory_over_batch_size": memory_over_batch_size,
    "share_of_gemm": share_of_gemm,
}


def write_figures(frame: pd.DataFrame, folder: Path) -> str:
    """Write the figures as PNG, and all measurements as CSV and Markdown, into `folder`.

    Returns the Markdown: a table for each layer, at its largest batch.
    """
    # In the order of the smallest batch, on which everything is measured: larger ones have gaps.
    order = frame.groupby(["layer", "algorithm", "pass_name"], sort=False).ngroup()
    frame = frame.iloc[order.argsort(kind="stable")]
    with mpl.rc_context({"text.parse_math": False}):
        for name, draw in FIGURES.items():
            draw(frame).savefig(folder / f"{name}.png", dpi=150)
    frame.to_csv(folder / "convolutions.csv", index=False)
    parts = [f"Convolutions: {_where(frame)}\n"]
    passes = frame["pass_name"].unique()
    for layer, rows in at_largest_batch(frame).groupby("layer", sort=False):
        parts.append(f"## {layer}, {rows['batch_size'].max()} images\n\n{_table(rows, passes)}")
    parts.append("Rates in GFLOP/s and as a share of GEMM's, extra memory in MiB.\n")
    text = "\n".join(parts)
    (folder / "convolutions.md").write_text(text, encoding="utf-8")
    return text


def at_largest_batch(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest batch size that an algorithm was measured on, of each layer."""
    largest = frame.groupby(["layer", "algorithm"])["batch_size"].transform("max")
    return frame[frame["batch_size"] == largest]


def _with_batch(frame: pd.DataFrame, algorithm: str) -> str:
    """An algorithm's name, with its largest batch if others have a larger one."""
    largest = frame.loc[frame["algorithm"] == algorithm, "batch_size"].max()
    return algorithm if largest == frame["batch_size"].max() else f"{algorithm} (N = {largest})"


def _table(rows: pd.DataFrame, passes: Sequence[str]) -> str:
    """A Markdown row for each algorithm, with rate, share and memory of each pass, and seconds."""
    titles = [t for p in passes for t in (p.replace("_", " "), "ms", "MiB")]
    lines = [["algorithm", *titles, "largest error"]]
    lines.append(["---"] * len(lines[0]))
    for algorithm, of_one in rows.groupby("algorithm", sort=False):
        line = [_with_batch(rows, str(algorithm))]
        by_pass = of_one.set_index("pass_name")
        for name in passes:
            line += _cells(by_pass.loc[name]) if name in by_pass.index else ["", "", ""]
        error = of_one["error"].max()
        lines.append([*line, "" if pd.isna(error) else f"{error:.1g}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: pd.Series) -> list[str]:
    """Rate with share, milliseconds, and MiB of a measurement."""
    extra = row["extra_bytes"]
    return [
        f"{row['gflop_per_second']:.3g} ({row['share_of_gemm']:.0%})",
        f"{1000 * row['seconds']:.3g}",
        "" if pd.isna(extra) else f"{extra / MIB:.1f}",
    ]


def _over_batch_size(
    frame: pd.DataFrame,
    what: str,
    unit: str,
    draw: Callable[[Axes, pd.DataFrame, dict[str, Any]], None],
) -> Figure:
    """A panel for each pass (down) and layer (across); draw: called for each curve."""
    passes, layers = list(frame["pass_name"].unique()), list(frame["layer"].unique())
    size = (1 + 2.8 * len(layers), 1.5 + 2.2 * len(passes))
    figure = Figure(size, layout="constrained")
    panels = figure.subplots(len(passes), len(layers), sharex=True, sharey=True, squeeze=False)
    looks = _looks(list(frame["algorithm"].unique()))
    for algorithm, look in looks.items():  # the legend is that of the first panel
        panels[0, 0].plot([], [], label=algorithm, **look)
    sizes = sorted(frame["batch_size"].unique())
    for name, across in zip(passes, panels, strict=True):
        for layer, axes in zip(layers, across, strict=True):
            rows = frame[(frame["pass_name"] == name) & (frame["layer"] == layer)]
            for algorithm, of_one in rows.groupby("algorithm", sort=False):
                draw(axes, of_one, looks[algorithm])
            axes.set_title(f"{layer}, {name.replace('_', ' ')}", loc="left", fontsize="medium")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(sizes))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            _clean(axes)
        across[0].set_ylabel(unit)
    for axes in panels[-1]:
        axes.set_xlabel("batch size N")
    _title(figure, frame, f"{what} over batch size")
    return figure


def _looks(algorithms: list[str]) -> dict[str, dict[str, Any]]:
    """Keywords of a line for each algorithm; grey for those that are there for reference."""
    measured = [name for name in algorithms if name not in REFERENCES]
    looks = {
        name: (COLOURS[i % len(COLOURS)], "-", MARKERS[i % len(MARKERS)])
        for i, name in enumerate(measured)
    } | REFERENCES
    keys = ("color", "linestyle", "marker")
    return {name: dict(zip(keys, looks[name], strict=True), markersize=4) for name in algorithms}


def _clean(axes: Axes) -> None:
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure) -> None:
    """The curves of the first panel, below all panels."""
    lines = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
    figure.legend(handles=lines, loc="outside lower left", frameon=False, ncols=4)


def _where(frame: pd.DataFrame) -> str:
    """The hardware in words."""
    return f"{frame['hardware'].iloc[0]}, {frame['threads'].iloc[0]} threads"


def _title(figure: Figure, frame: pd.DataFrame, what: str) -> None:
    title = f"Convolutions: {what}\nfloat32, {_where(frame)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
