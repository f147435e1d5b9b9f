"""Composes the PDF's content: from a hand-in to the values of the template."""

import shlex
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath

from eml.analysis.fairness import warnings
from eml.analysis.figures import FIGURES
from eml.analysis.report import edges, svg
from eml.config import AUTO, resolve_learning_rate
from eml.exact.step import SHEET as SHEET
from eml.handin.calculation import calculation
from eml.handin.document import Document, ExerciseBlock, FigureBlock, Node, Table, nodes
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


def compose(handin: Handin) -> tuple[Document, dict[str, bytes]]:
    """Work out everything that the PDF shows; return also the images by path.

    Those below figures/ are drawn, those below images/ are the group's.
    """
    composer, form, sheet = _Composer(handin), handin.form, handin.form.sheet
    document = Document(
        title=sheet.title,
        course=sheet.course,
        term=sheet.term,
        names=form.names,
        group=form.group,
        date=form.date.isoformat(),
        draft=handin.draft,
        declaration=_declaration(handin),
        answers=[composer.answer(exercise) for exercise in handin.exercises],
        commands=[
            *("eml gradients" for exercise in handin.exercises if exercise.gradients),
            *(command(a, handin.evidence[a.recipe]) for a in handin.assignments),
        ],
        file=sheet.file,
        provenance=provenance(handin),
        runs=_runs(handin),
    )
    return document, composer.images


@dataclass
class _Composer:
    """Collects the images while it composes the answers."""

    handin: Handin
    images: dict[str, bytes] = field(default_factory=dict)

    def text(self, markdown: str, where: str) -> list[Node]:
        """Parse a Markdown text, with its numbers."""

        def add_image(path: str) -> str:
            # The template's name of an image is not the group's, which may climb out of a folder.
            name = f"images/{len(self.images)}{PurePosixPath(path).suffix.lower()}"
            self.images[name] = self.handin.file(path)
            return name

        return nodes(self.handin.fill(markdown), add_image, where)

    def answer(self, exercise: Exercise) -> ExerciseBlock:
        """Compose an exercise."""
        points = "" if exercise.points is None else f" ({exercise.points} points)"
        review = self.handin.review(exercise) if exercise.review_of else ""
        results: list[FigureBlock | Table] = []
        for assignment in exercise.trainings:
            results += [self.figure(exercise, assignment, name) for name in assignment.figures]
            results.append(_results(self.handin, assignment))
            if self.handin.evidence[assignment.recipe].tried.trainings:
                results.append(_tried(self.handin, assignment.recipe))
        return ExerciseBlock(
            title=f"{exercise.number} {exercise.title}{points}",
            review_of=exercise.review_of,
            review=self.text(review, f"review, {exercise.number}"),
            calculation=calculation(SHEET, self.handin.solution) if exercise.gradients else [],
            results=results,
        )

    def figure(self, exercise: Exercise, assignment: Assignment, name: str) -> FigureBlock:
        """Draw a figure, with its texts."""
        handin, recipe, figure = self.handin, assignment.recipe, FIGURES[name]
        comparison, texts = handin.evidence[recipe].final, handin.form.table(recipe)[name]
        path = f"figures/{recipe}/{name}.svg"
        self.images[path] = svg(figure.draw(comparison))
        lines = sentences(assignment, name, handin.curves[recipe], comparison.verdicts)
        observed = [handin.fill(line) for line in lines]
        about = f"{figure.title}. {assignment.of.about.partition(chr(10))[0]}"
        subject = assignment.of.exercise.partition(" ")[2]
        with_subject = f"{subject}: {figure.title.lower()}"
        return FigureBlock(
            file=path,
            title=figure.title if subject == exercise.title else with_subject,
            caption=about,
            alt=" ".join([about, *observed]),
            expected=self.text(texts["expected"], f"{recipe}, {name}, expected"),
            observed=observed,
            discussion=self.text(texts["discussion"], f"{recipe}, {name}, discussion"),
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


def provenance(handin: Handin) -> list[str]:
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
