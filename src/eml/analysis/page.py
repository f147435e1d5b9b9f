"""One page of a comparison, for the browser: figures to point at, curves to switch off, tables.

The page holds all it needs. MLflow's artifact viewer shows it, and so does a browser without a
network.
"""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from markdown_it import MarkdownIt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

TEMPLATE = Path(__file__).with_suffix(".html")


class Part(NamedTuple):
    """A part of a page."""

    folder: Path  # of SVG files, shown below the text
    text: str  # Markdown


def mark(figure: Figure) -> str:
    """Give the curves of a figure ids, and return their points as JSON for the page's script.

    A curve is what the legend names. Its number n is its place there; the ids of its lines and
    bands begin with "curve<n>-", those of its entry in the legend with "key<n>-". A point is
    [x, y, text], in the units of the SVG. The layout of the figure must be fixed.
    """
    (legend,) = figure.legends
    names = [str(line.get_label()) for line in figure.axes[0].lines]
    labels = [name for name in names if not name.startswith("_")]
    keys = zip(legend.legend_handles, legend.get_texts(), strict=True)
    for number, (key, text) in enumerate(keys):
        text.set_gid(f"key{number}-name")
        if key is not None:
            key.set_gid(f"key{number}-line")
    curves: dict[int, dict[str, Any]] = {
        number: {"label": label, "points": []} for number, label in enumerate(labels)
    }
    for panel, axes in enumerate(figure.axes):
        for place, artist in enumerate([*axes.lines, *axes.collections]):
            label = str(artist.get_label())
            if label.removeprefix("_") in labels:
                number = labels.index(label.removeprefix("_"))
                artist.set_gid(f"curve{number}-{panel}-{place}")
                if label in labels and isinstance(artist, Line2D):
                    curves[number]["points"] += _points(artist, axes, figure)
    return json.dumps(curves)


def _points(line: Line2D, axes: Axes, figure: Figure) -> list[tuple[float, float, str]]:
    """The visible points of a line: x and y in the units of the SVG, and their values in words."""
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
    name, in_words = figure.axes[-1].get_xlabel(), axes.yaxis.get_major_formatter()
    values = np.asarray(line.get_xydata())
    pixels = axes.transData.transform(values)
    return [
        (
            round(at * scale, 1),
            round(height - up * scale, 1),
            f"{name} {x:.4g}: {in_words.format_data_short(y)}",
        )
        for (x, y), (at, up) in zip(values, pixels, strict=True)
        if axes.bbox.contains(at, up)
    ]


def write_page(file: Path, title: str, parts: Sequence[Part]) -> None:
    """Write a page of these parts."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = ""
    for part in parts:
        body += markdown.render(part.text)
        for figure in sorted(part.folder.glob("*.svg")):
            _, tag, drawing = figure.read_text(encoding="utf-8").partition("<svg")
            body += f"<figure>{tag}{drawing}</figure>\n"
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    file.write_text(template.substitute(title=html.escape(title), body=body), encoding="utf-8")
