"""Writes the report of a comparison: figures, tables, verdicts, warnings, and a page of them.

The page holds all it needs. MLflow's artifact viewer shows it, and so does a browser without a
network: figures to point at, curves to switch off, tables to sort.
"""

import html
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eml.analysis.comparison import Comparison
from eml.analysis.fairness import differences, warnings
from eml.analysis.figures import Draw, sensitivity
from eml.analysis.labels import counted, in_digits, words
from eml.analysis.summary import Outcomes, by_rate, summary, tried
from eml.analysis.tables import brief, markdown, readable
from eml.analysis.verdicts import FEW_IMAGES, FEWEST_SEEDS, Verdict

PAGE = Path(__file__).with_name("page.html")
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@contextmanager
def _settled(figure: Figure) -> Iterator[None]:
    """A context in which equal figures give equal files: one layout, text as text, constant ids."""
    with mpl.rc_context({"svg.hashsalt": "eml"}):
        # A layout engine would make each file draw the figure twice.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        figure.set_layout_engine(None)
        yield


def svg(figure: Figure) -> bytes:
    """A figure as SVG; equal histories give equal bytes."""
    with _settled(figure):
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def _write_figure(name: str, figure: Figure, folder: Path) -> None:
    """Write a figure as PNG, and as SVG with its points (mark)."""
    with _settled(figure):
        figure.savefig(folder / f"{name}.png", dpi=150)
        about = {"Date": None, "Description": mark(figure)}
        figure.savefig(folder / f"{name}.svg", metadata=about)


def write_report(figures: Mapping[str, Draw], comparison: Comparison, folder: Path) -> "Report":
    """Write figures, and tables as CSV and Markdown, into `folder`; return what they say."""
    split, rows = comparison.split, summary(comparison)
    pairs, on_seconds = comparison.verdicts, comparison.verdicts_on_seconds
    by_name = dict(figures) | ({"sensitivity": sensitivity} if by_rate(comparison) else {})
    for name, draw in by_name.items():
        _write_figure(name, draw(comparison), folder)
    pd.DataFrame([row.row() for row in rows]).to_csv(folder / "summary.csv", index=False)
    # Of dictionaries, because pandas copies dataclasses one by one, which takes longer.
    told = [vars(pair) | {"reason": pair.reason} for pair in (*pairs, *on_seconds)]
    table = pd.DataFrame(told, columns=[*Verdict.__annotations__, "reason"])
    table.to_csv(folder / "verdicts.csv", index=False)
    chosen = ", so chosen on the test set" if split == "test" else ""
    text = f"{markdown(readable(rows))}\nbest: of all epochs by {split} accuracy{chosen}\n"
    few, seeds = rows[0].images, f"at least {FEWEST_SEEDS} common seeds"
    images = f" and these {few} images" if few < FEW_IMAGES else ", on this test set"
    notes = {
        f"Differences in {comparison.score_name}, with 95 % intervals over {seeds}{images}, "
        "corrected for the number of pairs": _verdicts(pairs),
        f"Ratios of the seconds per epoch, over {seeds}": _verdicts(on_seconds),
        "Also different between these runs": differences(comparison),
        "Warnings": list(
            filter(None, [comparison.alone, *warnings(comparison), *on_rates(comparison)])
        ),
    }
    for title, lines in notes.items():
        if any(lines):
            text += f"\n{title}:\n" + "".join(f"- {line}\n" for line in lines if line)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return Report(list(by_name), brief(rows), notes["Warnings"], text)


class Report(NamedTuple):
    """What is said of a comparison."""

    figures: list[str]  # names
    brief: list[dict[str, str]]  # a row for each curve, the best first
    warnings: list[str]
    rest: str  # all of summary.md, Markdown


def _verdicts(pairs: Sequence[Verdict]) -> list[str]:
    """A line for each pair; one line if none is judged."""
    if pairs and not any(pair.test for pair in pairs):
        return [f"no pair is judged: {', '.join(dict.fromkeys(pair.reason for pair in pairs))}"]
    return list(map(str, pairs))


def write_grid(
    comparison: Comparison, outcomes: Outcomes, remarks: Sequence[str], folder: Path
) -> str:
    """Write the trainings of a search as figure, CSV and Markdown; return the Markdown."""
    rows = tried(comparison, outcomes)
    if by_rate(comparison):
        _write_figure("grid", sensitivity(comparison), folder)
    pd.DataFrame(rows).to_csv(folder / "grid.csv", index=False)
    text = markdown(
        [
            {
                "optimizer": words("optimizer", row["optimizer"]),
                "learning rate": f"{row['learning_rate']:g}",
                comparison.score_name: f"{row['validation_accuracy']:.2%}",
                "outcome": row["outcome"],
            }
            for row in rows
        ]
    )
    text += "".join(f"- {remark}\n" for remark in (*remarks, *on_rates(comparison)))
    (folder / "grid.md").write_text(text, encoding="utf-8")
    return text


def on_rates(comparison: Comparison) -> list[str]:
    """A line for each optimizer that a search tried at fewer learning rates than another.

    And one for each whose best rate is at the edge of those tried.
    """
    searched = [t.values for t in comparison.trainings if t.split == "validation"]
    tried = dict.fromkeys((values["optimizer"], values["learning_rate"]) for values in searched)
    counts = Counter(optimizer for optimizer, _ in tried)
    most = max(counts.values(), default=0)
    lines = [
        f"undertuned? {words('optimizer', name)} was tried at {counted(n, 'learning rate')}, "
        f"another at {most}"
        for name, n in counts.items()
        if n < most
    ]
    lowest, highest = comparison.rates
    for optimizer, scores in by_rate(comparison).items():
        rates = list(scores)
        best, *others = (rate for rate in rates if scores[rate] == max(scores.values()))
        if best in (rates[0], rates[-1]) and not others:
            step = best / (rates[1] if best == rates[0] else rates[-2])
            beyond = [min(max(best * step**n, lowest), highest) for n in (1, 2)]
            taken = " and ".join(dict.fromkeys(f"{rate:.2g}" for rate in beyond if rate != best))
            line = f"the best learning rate of {optimizer}, {best:g}, is at the edge of those tried"
            lines.append(line + (f": try {taken} too" if taken else ", and of those allowed"))
    return lines


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
            f"{name} {in_digits(x)}: {in_words.format_data_short(y)}",
        )
        for (x, y), (at, up) in zip(values, pixels, strict=True)
        if axes.bbox.contains(at, up)
    ]


def write_page(file: Path, title: str, report: Report, searched: str = "") -> None:
    """Write a page of a report and the figures (SVG) in the file's folder.

    searched: the figure of a search, too.
    """
    curve, accuracy, *_ = report.brief[0].items()
    best = f"Best by the {accuracy[0]}: **{curve[1]}**, {accuracy[1]}"
    body = MARKDOWN.render(best) if len(report.brief) > 1 else ""
    files = sorted(file.parent.glob("*.svg"), key=lambda svg: report.figures.index(svg.stem))
    for figure in filter(None, [*(svg.read_text("utf-8") for svg in files), searched]):
        _, tag, drawing = figure.partition("<svg")
        body += f"<figure>{tag}{drawing}</figure>\n"
    body += MARKDOWN.render(markdown(report.brief))
    rest = MARKDOWN.render(report.rest)
    body += f"<details><summary>All columns, pairs and warnings</summary>\n{rest}</details>\n"
    template = Template(PAGE.read_text(encoding="utf-8"))
    file.write_text(template.substitute(title=html.escape(title), body=body), encoding="utf-8")
