"""Writes the report of a recipe or a comparison: figures, summary, differences, warnings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from eml.analysis.curves import evaluated
from eml.analysis.fairness import differences, warnings
from eml.analysis.figures import Draw, grid, sensitivity
from eml.analysis.summary import best_by_rate, markdown, readable, summary


def draw(
    figures: Mapping[str, Draw], history: pd.DataFrame, footnotes: Sequence[str]
) -> dict[str, Figure]:
    """The figures by file name; adds the sensitivity if there are several learning rates."""
    more = {"sensitivity": sensitivity} if best_by_rate(history) else {}
    return {name: make(history, footnotes) for name, make in {**figures, **more}.items()}


def write_figures(figures: dict[str, Figure], folder: Path) -> None:
    """Write each figure as PNG, SVG and PDF; equal histories give equal bytes."""
    # Keep text as text in PDF, and ids in SVG constant.
    settings: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "eml"}
    with mpl.rc_context(settings), catch_warnings():
        # The font may lack characters of a name; a box replaces them.
        filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=150)
            figure.set_layout_engine("none")  # the PNG has fixed the layout
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})


def write_report(
    figures: Mapping[str, Draw], history: pd.DataFrame, folder: Path, targets: Sequence[float] = ()
) -> str:
    """Write figures, and the summary as CSV and Markdown, into `folder`; return the Markdown.

    targets: test accuracies, 0 to 1; the summary tells when they were reached.
    """
    other = differences(history)
    write_figures(draw(figures, history, other), folder)
    table = summary(history, targets)
    table.to_csv(folder / "summary.csv", index=False)
    text = markdown(readable(table, targets))
    split = evaluated(history)
    text += f"\nbest: of all epochs by {split} accuracy"
    text += ", so chosen on the test set\n" if split == "test" else "\n"
    notes = {
        "Also different between these runs": other,
        "Mind": [*warnings(history), *edges(history)],
    }
    for title, lines in notes.items():
        if lines:
            text += f"\n{title}:\n" + "".join(f"- {line}\n" for line in lines)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return text


def write_grid(
    history: pd.DataFrame, table: pd.DataFrame, remarks: Sequence[str], folder: Path
) -> str:
    """Write the trainings of a search as figure, CSV and Markdown; return the Markdown.

    table: summary.tried of the history.
    """
    write_figures({"grid": grid(history, table)}, folder)
    table.to_csv(folder / "grid.csv", index=False)
    shown = table.drop(columns="run_id").assign(
        best_validation_accuracy=table["best_validation_accuracy"].map("{:.2%}".format),
        learning_rate=table["learning_rate"].map("{:g}".format),
    )
    text = markdown(shown.rename(columns=lambda name: name.replace("_", " ")))
    text += "".join(f"- {remark}\n" for remark in remarks)
    (folder / "grid.md").write_text(text, encoding="utf-8")
    return text


def edges(history: pd.DataFrame) -> list[str]:
    """A line for each optimizer whose best learning rate is at the edge of those tried."""
    lines = []
    for optimizer, rates in best_by_rate(history).items():
        tried = list(rates.index)
        best = rates.idxmax()
        if rates[best] == 0:
            lines.append(f"every learning rate of {optimizer} diverged: try {tried[0] / 10:.2g}")
        elif best in (tried[0], tried[-1]):
            inner = tried[1] if best == tried[0] else tried[-2]
            step = best / inner
            lines.append(
                f"the best learning rate of {optimizer}, {best:g}, is at the edge of those tried: "
                f"try {best * step:.2g} and {best * step**2:.2g} too"
            )
    return lines
