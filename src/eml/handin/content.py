"""Makes the PDF: composes its values from a hand-in, and typesets them with report.typ."""

import json
import math
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import typst
from matplotlib.ft2font import FT2Font

from eml.analysis.curves import Training
from eml.analysis.fairness import SEEDS, warnings
from eml.analysis.figures import FIGURES, sensitivity
from eml.analysis.labels import LAST, words
from eml.analysis.report import on_rates, svg
from eml.analysis.summary import by_rate
from eml.analysis.verdicts import NOT_JUDGED
from eml.errors import UserError, printable
from eml.exact.step import PARAMETERS, SHEET, Value, solve, with_decimal
from eml.handin.evidence import REFERENCE, own_path
from eml.handin.handin import Handin, image_name
from eml.handin.sentences import sentences
from eml.handin.sheet import Assignment, Exercise
from eml.handin.source import files_of
from eml.tracking.tags import CODE_CHECK

VERSIONS = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy", "mlflow": "MLflow"}
RUN = {"run_id": 8, "run_name": None, "status": None, "git_commit": 9}  # characters printed
FONTS = Path(mpl.get_data_path(), "fonts", "ttf")
WIDTH = 88  # characters of a command's line
WIDEST = 100  # of the group's own code
LETTERS = {"x": "X", "y": "Y"} | PARAMETERS | {"weights_1": "W1"}
SHORT = 30  # characters of a calculation that fit in a column
FIGURE = "figures/{}/{}.svg"  # of a recipe, by name
SEARCH = "search"  # the name of the figure of a search
NONE = "-"  # in a cell without a number
COLUMNS = {  # titles of the results, and the numbers in a cell
    "learning rate": ("learning_rate",),
    "n": ("n",),
    "final accuracy": ("final_test_accuracy",),
    "95 % interval": ("final_low", "final_high"),
    "best": ("best_test_accuracy",),
    "in epoch": ("best_epoch",),
    "train loss": ("final_train_loss",),
    "test loss": ("final_test_loss",),
    "s/epoch": ("seconds_per_epoch",),
}
PAIRS = "Paired by seed and corrected for the number of pairs."
RESULTS = "After the last epoch, except for the best. n: number of runs, one for each seed."
WITH_ONE_SEED = (
    " With n = 1 the interval comes from the test images alone and says nothing about other seeds."
)
TRIED = "* chosen: the best; of rates tied within the error of the images the middle or better one."
DIVERGED = " † diverged, so it counts as chance."


def compose(handin: Handin) -> dict[str, Any]:
    """Work out everything that report.typ prints but the images, by the names that it reads."""
    form = handin.form
    runs = (tuple(str(run.get(k))[:end] for k, end in RUN.items()) for _, run in handin.runs)
    return {
        "sheet": form.sheet,
        "names": form.names,
        "group": form.group,
        "date": form.date.isoformat(),
        "draft": handin.draft,
        "declared": form.exercise,
        "answers": [_answer(handin, exercise) for exercise in handin.exercises],
        "commands": [broken(text) for text in _commands(handin)],
        "steps": handin.parsed(form.steps),
        "code": _code(handin),
        "provenance": _provenance(handin),
        "runs": list(dict.fromkeys(runs)),
    }


def broken(command: str) -> str:
    """Break a command into lines that a shell joins."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        if len(lines[-1]) + len(word) > WIDTH:
            lines.append("   ")
        parts = [word] if "'" in word else [word[i : i + WIDTH] for i in range(0, len(word), WIDTH)]
        lines[-1] += (" " if lines[-1] else "") + "\\\n".join(parts)
    return " \\\n".join(lines)


def _code(handin: Handin) -> dict[str, Any]:
    """Return which files implement each exercise, and what the group changed in them."""
    code = handin.code
    rows = [(e.number, ", ".join(names)) for e in handin.exercises if (names := files_of(e))]
    return {
        "written": f"eml {code.get('version', '')}, commit {code.get('commit', 'unknown')[:9]}",
        "base": str(code.get("base") or "")[:9],
        "changes": list(map(str, code.get("changes", ()))),
        "rows": rows,
        "own": [_own(handin, path, source) for path, source in handin.own_code.items()],
    }


def _own(handin: Handin, path: str, source: bytes) -> dict[str, Any]:
    """Return the group's own file, what its check has found, and how it compares with eml's."""
    runs = [(recipe, run) for recipe, run in handin.runs if own_path(run) == path]
    found = dict.fromkeys(str(run.get(CODE_CHECK)) for _, run in runs)
    lines = [f"Checked before the training: {text}." for text in found]
    for recipe, evidence in handin.evidence.items():
        own = [t for t in evidence.final.trainings if own_path(t.values) == path]
        apart = [100 * (t.score(LAST) - t.number(REFERENCE)) for t in own]
        if known := [points for points in apart if not math.isnan(points)]:
            ends = " to ".join(dict.fromkeys(f"{end:+.2f}" for end in (min(known), max(known))))
            of = f"{len(known)} of {len(own)} trainings"
            lines.append(f"{recipe}: final accuracy minus that of eml's network: {ends} ({of}).")
    # Lines that fit in, of characters that the PDF's font has.
    letters = FT2Font(str(FONTS / "DejaVuSansMono.ttf")).get_charmap()
    text = ""
    for line in source.decode(errors="replace").expandtabs(4).splitlines():
        shown = "".join(letter if ord(letter) in letters else "?" for letter in line)
        text += "\n".join(wrap(shown, WIDEST, drop_whitespace=False)) + "\n"
    _, sha256, name = path.split("/")
    about = {"name": name, "sha256": sha256, "recipes": list(dict(runs))}
    return about | {"lines": lines, "text": text}


def _answer(handin: Handin, exercise: Exercise) -> dict[str, Any]:
    results = []
    for assignment in exercise.trainings:
        results += [_figure(handin, exercise, assignment, name) for name in assignment.figures]
        results += [_results(handin, assignment), *_pairs(handin, assignment.recipe)]
        if handin.evidence[assignment.recipe].tried.trainings:
            results.append(_tried(handin, assignment.recipe))
    return {
        "exercise": exercise,
        "review": handin.parsed(handin.form.exercise[exercise.number].get("review", "")),
        "calculation": _calculation() if exercise.gradients else [],
        "results": results,
    }


def _figure(
    handin: Handin, exercise: Exercise, assignment: Assignment, name: str
) -> dict[str, Any]:
    recipe, title = assignment.recipe, FIGURES[name].title
    comparison = handin.evidence[recipe].final
    observed = sentences(assignment, name, handin.curves[recipe], comparison)
    subject = comparison.subject.partition(" ")[2]
    return {
        "image": image_name(FIGURE.format(recipe, name)),
        "title": title if subject == exercise.title else f"{subject}: {title.lower()}",
        "caption": comparison.alone or assignment.of.about.partition("\n")[0],
        "observed": [handin.fill(sentence) for sentence in observed],
        **{key: handin.parsed(text) for key, text in handin.form.table(recipe)[name].items()},
    }


def _calculation() -> list[dict[str, Any]]:
    """Write 3.1 in sections: what is given, each step, all gradients and parameters together.

    A line is a quantity and its text. Both are made of numbers and names of quantities alone, so
    that they hold no code.
    """
    solution = solve(SHEET)
    given = [*_matrices("", vars(SHEET)), ("lambda", with_decimal(SHEET.learning_rate))]
    sections: list[dict[str, Any]] = [{"title": "Given", "columns": 3, "lines": given}]
    together = {
        "Gradients of the first layer": ("The gradients together", "dL/d", solution.gradient),
        "Updated parameters": ("The updated parameters together", "new ", solution.after),
    }
    for section, group in groupby(solution.lines, key=lambda line: line.section):
        title, _, formula = section.partition(": ")
        lines = [(line.quantity, line.text) for line in group]
        columns = len(SHEET.bias_1) if max(len(text) for _, text in lines) <= SHORT else 1
        sections.append({"title": title, "formula": formula, "columns": columns, "lines": lines})
        if title in together:
            title, prefix, values = together[title]
            sections.append({"title": title, "columns": 4, "lines": _matrices(prefix, values)})
    return sections


def _matrices(prefix: str, values: Mapping[str, Value]) -> list[tuple[str, str]]:
    """Return all numbers of each parameter, or of the samples, in one line."""
    return [
        (prefix + letter, str(np.array(values[name]).astype(str).tolist()).replace("'", ""))
        for name, letter in LETTERS.items()
        if name in values
    ]


def _results(handin: Handin, assignment: Assignment) -> dict[str, Any]:
    """List the results of the curves, in the columns that any of them has."""
    curves = handin.curves[assignment.recipe]
    texts = {name: number.shown for name, number in handin.numbers.items()}
    left_out = [] if assignment.of.varies == "optimizer" else ["learning rate"]
    left_out += [] if "loss_over_epochs" in assignment.figures else ["train loss", "test loss"]
    columns = {"": [one.title for one in curves]}
    for title, keys in COLUMNS.items():
        names = [[f"{one.start}.{key}" for key in keys] for one in curves]
        if title not in left_out and any(of_curve[0] in texts for of_curve in names):
            columns[title] = [" to ".join(texts.get(n, NONE) for n in row) for row in names]
    caption = f"Results: {assignment.of.exercise.partition(' ')[2] or assignment.recipe}"
    rows = list(zip(*columns.values(), strict=True))
    note = RESULTS + (WITH_ONE_SEED if "1" in columns["n"] else "")
    return {"caption": caption, "header": list(columns), "rows": rows, "note": note}


def _tried(handin: Handin, recipe: str) -> dict[str, Any]:
    """List the learning rates that a search has tried."""
    evidence = handin.evidence[recipe]
    tried = [t.values for t in evidence.tried.trainings]

    def keys(trainings: Iterable[Training]) -> set[tuple[str, float]]:
        return {(t.values["optimizer"], t.values["learning_rate"]) for t in trainings}

    diverged = keys(t for t in evidence.tried.trainings if t.diverged is not None)
    chosen = keys(evidence.final.trainings)

    def cell(optimizer: str, rate: float) -> str:
        number = handin.numbers.get(f"{recipe}.searched.{optimizer}.{rate:g}")
        mark = " *" if (optimizer, rate) in chosen else ""
        mark += " †" if (optimizer, rate) in diverged else ""
        return number.shown + mark if number else NONE

    rates = sorted({values["learning_rate"] for values in tried})
    names = dict.fromkeys(values["optimizer"] for values in tried)
    rows = [[words("optimizer", n), *(cell(n, rate) for rate in rates)] for n in names]
    remarks = [line.partition(": try")[0] for line in on_rates(evidence.tried)]
    epochs, images = tried[0]["epochs"], tried[0]["validation"]
    caption = "Learning rates tried: median validation accuracy of the last half "
    caption += f"of {epochs} epochs, {images} images held out"
    header = ["", *(f"{rate:g}" for rate in rates)]
    note = TRIED + (DIVERGED if diverged else "")
    note += "".join(f" {line[:1].upper()}{line[1:]}." for line in remarks)
    image = image_name(FIGURE.format(recipe, SEARCH)) if by_rate(evidence.tried) else ""
    return {"caption": caption, "header": header, "rows": rows, "note": note, "searched": image}


def _pairs(handin: Handin, recipe: str) -> list[dict[str, Any]]:
    """Tabulate the verdicts on all pairs of curves, unless none is judged."""
    by_label = {one.curve.label: one for one in handin.curves[recipe]}
    verdicts = handin.evidence[recipe].final.verdicts
    if all(pair.outcome == NOT_JUDGED for pair in verdicts):
        return []
    rows = []
    for pair in verdicts:
        one, other = by_label[pair.curve], by_label[pair.other]
        names = [f"{one.start}.{key}_to_{other.name}" for key in ("difference", "low", "high")]
        shown = [handin.numbers[name].shown if name in handin.numbers else NONE for name in names]
        outcome = f"{pair.outcome}{f' ({pair.reason})' if pair.reason else ''}"
        rows.append([f"{one.title} - {other.title}", shown[0], " to ".join(shown[1:]), outcome])
    header = ["final accuracy", "difference (points)", "95 % interval", "outcome"]
    return [{"caption": "Pairs of curves", "header": header, "rows": rows, "note": PAIRS}]


def _commands(handin: Handin) -> list[str]:
    """Return the commands that have trained the runs, as they were typed.

    Runs of an older store do not tell theirs: the recipe's stands in its place.
    """
    exact = ["eml gradients" for exercise in handin.exercises if exercise.gradients]
    typed = ((run.get("command"), f"eml {recipe}") for recipe, run in handin.runs)
    trained = (text if isinstance(text, str) else recipe for text, recipe in typed)
    return list(dict.fromkeys([*exact, *trained]))


def _provenance(handin: Handin) -> list[str]:
    """Return a sentence on machines and versions, the data, and the warnings about the runs."""

    def told(name: str, end: int | None = None) -> str:
        texts = (run[name][:end] for _, run in handin.runs if isinstance(run.get(name), str))
        return ", ".join(dict.fromkeys(texts)) or "unknown"

    versions = ", ".join(f"{title} {told(name)}" for name, title in VERSIONS.items())
    changed = ", with uncommitted changes" if "true" in told("git_dirty") else ""
    lines = [
        f"Trained on {told('hardware')} with {versions}; commit {told('git_commit', 9)}{changed}.",
        f"Checksums of the data begin with {told('dataset_digest', 9)}.",
    ]
    if stores := {run["store"] for _, run in handin.runs if isinstance(run.get("store"), str)}:
        lines.append(f"Some runs were read from other stores: {', '.join(sorted(stores))}.")
    for recipe, evidence in handin.evidence.items():
        lines += [f"{recipe}: {line}" for line in warnings(evidence.final) if SEEDS not in line]
    return lines


def typeset(handin: Handin) -> dict[str, bytes]:
    """Make the PDF and, as SVG, its figures, by path. Raises UserError for what no PDF can hold."""
    data = json.dumps(compose(handin), default=vars)
    figures = {}
    for assignment in handin.assignments:
        recipe, evidence = assignment.recipe, handin.evidence[assignment.recipe]
        final = replace(evidence.final, exercise="", varies="")  # heading and caption say these
        for name in assignment.figures:
            figures[FIGURE.format(recipe, name)] = svg(FIGURES[name].draw(final))
        if by_rate(evidence.tried):
            tried = replace(evidence.tried, exercise="")
            figures[FIGURE.format(recipe, SEARCH)] = svg(sensitivity(tried))
    layout: Any = (files("eml.handin") / "report.typ").read_bytes()
    day = datetime.combine(handin.form.date, time(), UTC)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data.json").write_text(data)
        for path, image in (figures | handin.files).items():
            Path(folder, image_name(path)).write_bytes(image)
        try:
            pdf = typst.compile(
                layout,
                root=folder,
                font_paths=[FONTS],
                ignore_system_fonts=True,
                format="pdf",
                # Archivable; accessible: every figure has an alternative text.
                pdf_standards=["a-2a", "ua-1"],
                timestamp=int(day.timestamp()),
            )
        except typst.TypstError as error:
            raise UserError(printable(f"the PDF cannot be made: {error}", 300)) from error
    return {f"{handin.form.sheet.file}.pdf": pdf} | figures
