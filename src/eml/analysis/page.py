"""One page of a comparison, for the browser: figures to point at, curves to switch off, tables.

The page holds all it needs. MLflow's artifact viewer shows it, and so does a browser without a
network.
"""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from markdown_it import MarkdownIt
from matplotlib.figure import Figure

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
    names: dict[str, int] = {}
    for legend in figure.legends:
        named = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
        for number, (line, key, text) in enumerate(
            zip(named, legend.legend_handles, legend.get_texts(), strict=True)
        ):
            names[str(line.get_label())] = number
            for artist, end in ((key, "line"), (text, "name")):
                if artist is not None:
                    artist.set_gid(f"key{number}-{end}")
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
    points: dict[int, list[tuple[float, float, str]]] = {}
    for panel, axes in enumerate(figure.axes):
        in_words = axes.yaxis.get_major_formatter().format_data_short
        for place, artist in enumerate([*axes.lines, *axes.collections]):
            label = str(artist.get_label())
            number = names.get(label.removeprefix("_"), -1)
            if number < 0:
                continue
            artist.set_gid(f"curve{number}-{panel}-{place}")
            if label in names and hasattr(artist, "get_xydata"):
                for x, y in artist.get_xydata():
                    where = axes.transData.transform((x, y))
                    if axes.bbox.contains(*where):
                        said = f"{axes.get_xlabel() or figure.axes[-1].get_xlabel()} {x:.4g}"
                        points.setdefault(number, []).append(
                            (
                                round(where[0] * scale, 1),
                                round(height - where[1] * scale, 1),
                                f"{said}: {in_words(y)}",
                            )
                        )
    labels = {number: label for label, number in names.items()}
    return json.dumps({n: {"label": labels[n], "points": points.get(n, [])} for n in labels})


def write_page(file: Path, title: str, parts: Sequence[Part]) -> None:
    """Write a page of these parts."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = ""
    for part in parts:
        body += markdown.render(part.text)
        for figure in sorted(part.folder.glob("*.svg"), key=_rank):
            _, tag, drawing = figure.read_text(encoding="utf-8").partition("<svg")
            body += f"<figure>{tag}{drawing}</figure>\n"
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    file.write_text(template.substitute(title=html.escape(title), body=body), encoding="utf-8")


def _rank(figure: Path) -> tuple[bool, bool, str]:
    """Accuracies come first, losses last."""
    return "loss" in figure.name, "accuracy" not in figure.name, figure.name
