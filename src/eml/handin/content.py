"""Composes the PDF's content: from a hand-in to the values of the template."""

import shlex
from dataclasses import fields

from eml.analysis.fairness import warnings
from eml.analysis.figures import FIGURES
from eml.analysis.report import edges, svg
from eml.config import AUTO, resolve_learning_rate
from eml.handin.calculation import calculation
from eml.handin.document import Document, ExerciseBlock, FigureBlock, Table, nodes
from eml.handin.evidence import Evidence
from eml.handin.handin import Handin
from eml.handin.sentences import sentences
from eml.handin.sheet import Assignment, Exercise

# The field of Config behind an option of another name; an option in the plural has all values.
FIELDS = {
    "lr": "learning_rate",
    "lrs": "learning_rate",
    "seeds": "seed",
    "optimizers": "optimizer",
    "devices": "device_type",
}
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
}
WORDS = {True: "yes", False: "no", "": "not declared"}
NONE = "-"  # in a cell without a number
COLUMNS = {
    "learning_rate": "learning rate",
    "n": "n",
    "final_test_accuracy": "final accuracy",
    "interval": "95 % interval",
    "best_test_accuracy": "best",
    "best_epoch": "in epoch",
    "final_train_loss": "train loss",
    "final_test_loss": "test loss",
    "seconds_per_epoch": "s/epoch",
}


def compose(handin: Handin) -> Document:
    """Work out everything that the PDF shows but the images."""
    form = handin.form
    return Document(
        sheet=form.sheet,
        names=form.names,
        group=form.group,
        date=form.date.isoformat(),
        draft=handin.draft,
        declaration=_declaration(handin),
        answers=[_answer(handin, exercise) for exercise in handin.exercises],
        commands=[
            *("eml gradients" for exercise in handin.exercises if exercise.gradients),
            *(command(a, handin.evidence[a.recipe]) for a in handin.assignments),
        ],
        provenance=_provenance(handin),
        runs=_runs(handin),
    )


def draw_figures(handin: Handin) -> dict[str, bytes]:
    """Draw the figures of all exercises as SVG, by path."""
    return {
        figure_path(a, name): svg(FIGURES[name].draw(handin.evidence[a.recipe].final))
        for a in handin.assignments
        for name in a.figures
    }


def figure_path(assignment: Assignment, name: str) -> str:
    """Return the path of a figure in the zip, and for the template."""
    return f"figures/{assignment.recipe}/{name}.svg"


def _answer(handin: Handin, exercise: Exercise) -> ExerciseBlock:
    points = "" if exercise.points is None else f" ({exercise.points} points)"
    review = handin.review(exercise) if exercise.review_of else ""
    results: list[FigureBlock | Table] = []
    for assignment in exercise.trainings:
        results += [_figure(handin, exercise, assignment, name) for name in assignment.figures]
        results.append(_results(handin, assignment))
        if handin.evidence[assignment.recipe].tried.trainings:
            results.append(_tried(handin, assignment.recipe))
    return ExerciseBlock(
        title=f"{exercise.number} {exercise.title}{points}",
        review_of=exercise.review_of,
        review=nodes(handin.fill(review), handin.file, f"review, {exercise.number}"),
        calculation=calculation(handin.solution) if exercise.gradients else [],
        results=results,
    )


def _figure(handin: Handin, exercise: Exercise, assignment: Assignment, name: str) -> FigureBlock:
    recipe, title = assignment.recipe, FIGURES[name].title
    texts = {
        key: nodes(handin.fill(text), handin.file, f"{recipe}, {name}, {key}")
        for key, text in handin.form.table(recipe)[name].items()
    }
    verdicts = handin.evidence[recipe].final.verdicts
    observed = sentences(assignment, name, handin.curves[recipe], verdicts)
    subject = assignment.of.exercise.partition(" ")[2]
    return FigureBlock(
        file=figure_path(assignment, name),
        title=title if subject == exercise.title else f"{subject}: {title.lower()}",
        caption=f"{title}. {assignment.of.about.partition(chr(10))[0]}",
        observed=[handin.fill(sentence) for sentence in observed],
        **texts,
    )


def _declaration(handin: Handin) -> Table:
    """The declaration of willingness, a row for each exercise of the sheet."""
    sheet, rows = handin.form.sheet, []
    for exercise in sheet.exercises:
        answer = handin.form.exercise[exercise.number]
        handed_in, present = (WORDS[answer[key]] for key in ("hand_in", "present"))
        row = [f"{exercise.number} {exercise.title}", handed_in, present]
        if exercise.points is not None:
            willing = answer["hand_in"] and answer["present"]
            row += [str(exercise.points), f"{exercise.points / 2:g}" if willing else NONE]
        rows.append(row)
    header = ["Exercise", "handed in", "willing to present", "points", "for presenting"]
    asked = sheet.willingness_points
    note = f"The sheet gives {asked} points for the willingness to present." if asked else ""
    return Table("Declaration of the willingness to present", header[: len(rows[0])], rows, note)


def _results(handin: Handin, assignment: Assignment) -> Table:
    """The results of the curves, in the columns that any of them has."""
    curves, numbers = handin.curves[assignment.recipe], handin.numbers
    columns = {"": [one.title for one in curves]}
    for key, title in COLUMNS.items():
        if (key == "learning_rate" and assignment.of.varies != "optimizer") or (
            key.endswith("loss") and "loss_over_epochs" not in assignment.figures
        ):
            continue
        keys = ("final_low", "final_high") if key == "interval" else (key,)
        names = [[f"{one.start}.{key}" for key in keys] for one in curves]
        if any(of_curve[0] in numbers for of_curve in names):
            columns[title] = [
                " to ".join(numbers[n].shown if n in numbers else NONE for n in of_curve)
                for of_curve in names
            ]
    note = "After the last epoch, except for the best. n: number of runs, one for each seed."
    if "1" in columns["n"]:
        note += (
            " With n = 1 the interval comes from the test images alone and says nothing about "
            "other seeds."
        )
    rows = list(map(list, zip(*columns.values(), strict=True)))
    return Table(f"Results of {assignment.recipe}", list(columns), rows, note)


def _tried(handin: Handin, recipe: str) -> Table:
    """The learning rates that a search has tried."""
    evidence = handin.evidence[recipe]
    tried = evidence.tried.trainings
    chosen = {(t.values["optimizer"], t.values["learning_rate"]) for t in evidence.final.trainings}
    rates = sorted({t.values["learning_rate"] for t in tried}, reverse=True)
    rows = []
    for optimizer in dict.fromkeys(t.values["optimizer"] for t in tried):
        row = [optimizer]
        for rate in rates:
            number = handin.numbers.get(f"{recipe}.tried.{optimizer}.{rate:g}")
            mark = " *" if (optimizer, rate) in chosen else ""
            row.append(number.shown + mark if number else NONE)
        rows.append(row)
    notes = [
        "* chosen for the figure. Trainings that were behind halfway stopped there; a diverged one "
        "counts as chance.",
        *(f"{line[:1].upper()}{line[1:]}." for line in edges(evidence.tried)),
    ]
    caption = "Learning rates tried: accuracy on validation images at the end of each training"
    return Table(caption, ["", *(f"{rate:g}" for rate in rates)], rows, " ".join(notes))


def _runs(handin: Handin) -> Table:
    """All runs, with the short form of their commits."""
    header = {"run": "run_id", "training": "run_name", "status": "status", "commit": "git_commit"}
    rows = [[str(run.get(key)) for key in header.values()] for _, run in handin.runs]
    rows = [[*cells, commit[:9]] for *cells, commit in rows]
    return Table("All runs behind this hand-in", list(header), rows, numbers=False)


def command(assignment: Assignment, evidence: Evidence) -> str:
    """Return the command that trains the runs, with the options that differ from their defaults."""
    trainings = evidence.tried.trainings or evidence.final.trainings
    first = trainings[0].values
    parts = ["eml", assignment.recipe]
    for option in fields(assignment.of.options):
        name, default = FIELDS.get(option.name, option.name), str(option.default)
        if name not in first:
            continue
        if default == AUTO:
            default = str(resolve_learning_rate(AUTO, first["optimizer"], first["model"]))
        of = evidence.final.trainings if name == "seed" else trainings
        values = dict.fromkeys(training.values[name] for training in of)
        texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        if set(map(_plain, texts)) != set(map(_plain, default.split(","))):
            parts.append(f"--{option.name} {shlex.quote(','.join(texts))}")
    return " ".join(parts)


def _plain(text: str) -> float | str:
    """Return a number as one, so that "1.0" equals "1"."""
    try:
        return float(text)
    except ValueError:
        return text


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
    stores = dict.fromkeys(store for _, run in handin.runs if (store := run.get("store")))
    if other := [store for store in stores if isinstance(store, str)]:
        lines.append(f"some runs were read from other stores: {', '.join(other)}")
    for recipe, evidence in handin.evidence.items():
        lines += [f"{recipe}: {warning}" for warning in warnings(evidence.final)]
    return lines
