"""Makes the PDF: composes its values from a hand-in, and typesets them with report.typ."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, time
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import typst

from eml.analysis.fairness import warnings
from eml.analysis.figures import FIGURES
from eml.analysis.report import on_rates, svg
from eml.errors import UserError, printable
from eml.exact.step import PARAMETERS, SHEET, Value, solve, with_decimal
from eml.handin.handin import Handin, image_name
from eml.handin.sentences import sentences
from eml.handin.sheet import Assignment, Exercise

PROVENANCE = {
    "git_commit": "commit of the source",
    "git_dirty": "uncommitted changes of the source",
    "dataset_digest": "data digest",
    "hardware": "hardware",
    "threads": "threads",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "mlflow": "MLflow",
    "store": "some runs were read from other stores",
}
RUN = {"run_id": None, "run_name": None, "status": None, "git_commit": 9}  # characters printed
LETTERS = {"x": "X", "y": "Y"} | PARAMETERS | {"weights_1": "W1"}
SHORT = 30  # characters of a calculation that fit in a column
FIGURE = "figures/{}/{}.svg"  # of a recipe, by name
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
RESULTS = "After the last epoch, except for the best. n: number of runs, one for each seed."
WITH_ONE_SEED = (
    " With n = 1 the interval comes from the test images alone and says nothing about other seeds."
)
TRIED = "* chosen for the figure. A diverged training counts as chance."


def compose(handin: Handin) -> dict[str, Any]:
    """Work out everything that report.typ prints but the images, by the names that it reads."""
    form = handin.form
    return {
        "sheet": form.sheet,
        "names": form.names,
        "group": form.group,
        "date": form.date.isoformat(),
        "draft": handin.draft,
        "declared": form.exercise,
        "answers": [_answer(handin, exercise) for exercise in handin.exercises],
        "commands": _commands(handin),
        "provenance": _provenance(handin),
        "runs": [[str(run.get(key))[:end] for key, end in RUN.items()] for _, run in handin.runs],
    }


def _answer(handin: Handin, exercise: Exercise) -> dict[str, Any]:
    results = []
    for assignment in exercise.trainings:
        results += [_figure(handin, exercise, assignment, name) for name in assignment.figures]
        results.append(_results(handin, assignment))
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
    subject = assignment.of.exercise.partition(" ")[2]
    return {
        "image": image_name(FIGURE.format(recipe, name)),
        "title": title if subject == exercise.title else f"{subject}: {title.lower()}",
        "caption": f"{title}. {assignment.of.about.partition(chr(10))[0]}",
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
    caption = f"Results of {assignment.recipe}"
    rows = list(zip(*columns.values(), strict=True))
    note = RESULTS + (WITH_ONE_SEED if "1" in columns["n"] else "")
    return {"caption": caption, "header": list(columns), "rows": rows, "note": note}


def _tried(handin: Handin, recipe: str) -> dict[str, Any]:
    """List the learning rates that a search has tried."""
    evidence = handin.evidence[recipe]
    tried = [t.values for t in evidence.tried.trainings]
    chosen = {(t.values["optimizer"], t.values["learning_rate"]) for t in evidence.final.trainings}

    def cell(optimizer: str, rate: float) -> str:
        number = handin.numbers.get(f"{recipe}.tried.{optimizer}.{rate:g}")
        mark = " *" if (optimizer, rate) in chosen else ""
        return number.shown + mark if number else NONE

    rates = sorted({values["learning_rate"] for values in tried}, reverse=True)
    names = dict.fromkeys(values["optimizer"] for values in tried)
    rows = [[name, *(cell(name, rate) for rate in rates)] for name in names]
    remarks = on_rates(evidence.tried)
    caption = "Learning rates tried: accuracy on validation images at the end of each training"
    header = ["", *(f"{rate:g}" for rate in rates)]
    note = TRIED + "".join(f" {line[:1].upper()}{line[1:]}." for line in remarks)
    return {"caption": caption, "header": header, "rows": rows, "note": note}


def _commands(handin: Handin) -> list[str]:
    """Return the commands that have trained the runs, as they were typed.

    Runs of an older store do not tell theirs: the recipe's stands in its place.
    """
    exact = ["eml gradients" for exercise in handin.exercises if exercise.gradients]
    typed = ((run.get("command"), f"eml {recipe}") for recipe, run in handin.runs)
    trained = (text if isinstance(text, str) else recipe for text, recipe in typed)
    return list(dict.fromkeys([*exact, *trained]))


def _provenance(handin: Handin) -> list[str]:
    """Return commit, data, machines and versions of the runs, and the warnings about them."""
    lines = []
    for name, title in PROVENANCE.items():
        by_value: dict[str, dict[str, None]] = {}  # the recipes of each value, in order
        for recipe, run in handin.runs:
            if isinstance(run.get(name), str):
                by_value.setdefault(run[name], {})[recipe] = None
        parts = [f"{value} ({', '.join(recipes)})" for value, recipes in by_value.items()]
        if parts:
            lines.append(f"{title}: {'; '.join(parts if len(parts) > 1 else by_value)}")
    for recipe, evidence in handin.evidence.items():
        lines += [f"{recipe}: {warning}" for warning in warnings(evidence.final)]
    return lines


def typeset(handin: Handin) -> dict[str, bytes]:
    """Make the PDF and, as SVG, its figures, by path. Raises UserError for what no PDF can hold."""
    data = json.dumps(compose(handin), default=vars)
    figures = {
        FIGURE.format(a.recipe, name): svg(FIGURES[name].draw(handin.evidence[a.recipe].final))
        for a in handin.assignments
        for name in a.figures
    }
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
                font_paths=[Path(mpl.get_data_path(), "fonts", "ttf")],
                ignore_system_fonts=True,
                format="pdf",
                # Archivable; accessible: every figure has an alternative text.
                pdf_standards=["a-2a", "ua-1"],
                timestamp=int(day.timestamp()),
            )
        except typst.TypstError as error:
            raise UserError(printable(f"the PDF cannot be made: {error}", 300)) from error
    return {f"{handin.form.sheet.file}.pdf": pdf} | figures
