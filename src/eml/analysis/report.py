"""Writes the report of a recipe or a comparison: figures, tables, verdicts, warnings."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from eml.analysis.curves import CHANCE, evaluated
from eml.analysis.fairness import differences, warnings
from eml.analysis.figures import Draw, accuracy_by, grid, sensitivity
from eml.analysis.labels import words
from eml.analysis.options import CRITERIA, UNKNOWN, Subject
from eml.analysis.page import mark
from eml.analysis.style import Caption
from eml.analysis.summary import by_rate, summary
from eml.analysis.tables import markdown, readable
from eml.analysis.verdicts import FEWEST_SEEDS, Verdict, verdicts

MOST_PAIRS = 10  # verdicts that the text shows; verdicts.csv has all


@contextmanager
def _settings() -> Iterator[None]:
    """What makes the files of equal figures equal."""
    # Keep text as text in PDF, and ids in SVG constant.
    settings: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "eml"}
    with mpl.rc_context(settings), catch_warnings():
        # The font may lack characters of a name; a box replaces them.
        filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def _fix_layout(figure: Figure) -> None:
    """Lay a figure out once for all its files; a layout engine makes each file draw it twice."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)


def svg(figure: Figure) -> bytes:
    """A figure as SVG; equal histories give equal bytes."""
    with _settings():
        file = io.BytesIO()
        _fix_layout(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def write_figures(figures: dict[str, Figure], folder: Path, pdf: bool) -> None:
    """Write each figure as PNG and as SVG with its points (page.mark).

    pdf: also as PDF, which takes longer than both. Equal histories give equal bytes.
    """
    with _settings():
        for name, figure in figures.items():
            _fix_layout(figure)
            figure.savefig(folder / f"{name}.png", dpi=150)
            about = {"Date": None, "Description": mark(figure)}
            figure.savefig(folder / f"{name}.svg", metadata=about)
            if pdf:
                figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})


def write_report(
    figures: Mapping[str, Draw],
    history: pd.DataFrame,
    folder: Path,
    targets: Sequence[float] = (),
    subject: Subject = UNKNOWN,
    pdf: bool = False,
) -> str:
    """Write figures, and tables as CSV and Markdown, into `folder`; return the Markdown.

    targets: test accuracies, 0 to 1; the summary tells when they were reached. pdf: as for
    write_figures().
    """
    other, criterion = differences(history), subject.criterion
    alone = alone_in(history, subject.varies)
    caption = Caption(subject.exercise, other, alone)
    drawn = dict(figures)
    if by_rate(history, criterion):
        drawn["sensitivity"] = partial(sensitivity, criterion=criterion)
    write_figures({name: make(history, caption) for name, make in drawn.items()}, folder, pdf)
    pairs = verdicts(history, criterion)
    table = summary(history, targets, pairs)
    table.to_csv(folder / "summary.csv", index=False)
    text = markdown(readable(table, targets))
    split = evaluated(history)
    text += f"\nbest: of all epochs by {split} accuracy"
    text += ", so chosen on the test set\n" if split == "test" else "\n"
    # Of dictionaries, because pandas copies dataclasses one by one, which takes longer.
    rows = pd.DataFrame(map(vars, pairs), columns=list(Verdict.__annotations__))
    rows.to_csv(folder / "verdicts.csv", index=False)
    notes = {
        f"Differences in {accuracy_by(criterion, split)}, with 95 % intervals over common seeds, "
        "corrected for the number of pairs": _verdicts(pairs),
        "Also different between these runs": other,
        "Warnings": [alone, *warnings(history), *edges(history, criterion)],
    }
    for title, lines in notes.items():
        if shown := [line for line in lines if line]:
            text += f"\n{title}:\n" + "".join(f"- {line}\n" for line in shown)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return text


def alone_in(history: pd.DataFrame, varies: str) -> str:
    """A sentence if all runs have one value of the field that is to be compared; else ""."""
    if not varies or history[varies].nunique() > 1:
        return ""
    return f"{words(varies, history[varies].iloc[0])} alone: nothing to compare it with"


def _verdicts(pairs: Sequence[Verdict]) -> list[str]:
    """The lines of a report: every pair, or MOST_PAIRS of them, the separable ones first."""
    if pairs and max(pair.n for pair in pairs) < FEWEST_SEEDS:
        most = max(pair.n for pair in pairs)
        return [f"n = {most}: too few seeds to tell; {FEWEST_SEEDS} common seeds are needed"]
    if len(pairs) > MOST_PAIRS:
        shown = sorted(pairs, key=lambda pair: not pair.separable)[:MOST_PAIRS]
        separable = sum(pair.separable for pair in pairs)
        rest = f"{separable} of all {len(pairs)} pairs are separable: verdicts.csv"
        return [*map(str, shown), rest]
    return list(map(str, pairs))


def write_grid(
    history: pd.DataFrame,
    table: pd.DataFrame,
    remarks: Sequence[str],
    folder: Path,
    subject: Subject,
    pdf: bool,
) -> str:
    """Write the trainings of a search as figure, CSV and Markdown; return the Markdown.

    table: summary.tried of the history. pdf: as for write_figures().
    """
    caption = Caption(subject.exercise)
    write_figures({"grid": grid(history, table, caption, subject.criterion)}, folder, pdf)
    table.to_csv(folder / "grid.csv", index=False)
    shown = table.drop(columns="run_id").assign(
        validation_accuracy=table["validation_accuracy"].map("{:.2%}".format),
        learning_rate=table["learning_rate"].map("{:g}".format),
    )
    text = markdown(shown.rename(columns=lambda name: name.replace("_", " ")))
    text += "".join(f"- {remark}\n" for remark in remarks)
    (folder / "grid.md").write_text(text, encoding="utf-8")
    return text


def edges(history: pd.DataFrame, criterion: str = CRITERIA[0]) -> list[str]:
    """A line for each optimizer whose best learning rate is at the edge of those tried."""
    lines = []
    for optimizer, rates in by_rate(history, criterion).items():
        tried = list(rates.index)
        best = rates.idxmax()
        if rates[best] <= CHANCE:
            lines.append(
                f"no learning rate of {optimizer} got above chance: try {tried[0] / 10:.2g}"
            )
        elif best in (tried[0], tried[-1]):
            inner = tried[1] if best == tried[0] else tried[-2]
            step = best / inner
            lines.append(
                f"the best learning rate of {optimizer}, {best:g}, is at the edge of those tried: "
                f"try {best * step:.2g} and {best * step**2:.2g} too"
            )
    return lines
