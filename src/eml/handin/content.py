"""Composes the PDF's content: from a hand-in to the values of the template."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from eml.analysis.comparison import Comparison
from eml.analysis.figures import FIGURES
from eml.analysis.report import edges, svg
from eml.exact.step import SHEET as SHEET
from eml.handin.calculation import calculation
from eml.handin.document import (
    Document,
    ExerciseBlock,
    FigureBlock,
    Node,
    RecipeBlock,
    Table,
    nodes,
)
from eml.handin.handin import Handin
from eml.handin.origin import commands, provenance
from eml.handin.sentences import sentences
from eml.handin.sheet import Exercise, Trainings

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


@dataclass(frozen=True)
class Content:
    """The values of the template, and the images that they name."""

    document: Document
    figures: dict[str, bytes]  # SVG by path
    images: dict[str, bytes]  # of the texts, by path


def compose(handin: Handin) -> Content:
    """Work out everything that the PDF shows."""
    composer = _Composer(handin)
    return Content(composer.document(), composer.figures, composer.images)


@dataclass
class _Composer:
    """Collects the images while it composes the parts of the document."""

    handin: Handin
    figures: dict[str, bytes] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)

    def document(self) -> Document:
        form, sheet = self.handin.form, self.handin.sheet
        return Document(
            title=sheet.title,
            course=sheet.course,
            term=sheet.term,
            names=list(form.names),
            group=form.group,
            date=form.date.isoformat(),
            draft=self.handin.draft,
            declaration=_declaration(self.handin),
            answers=[self.answer(exercise) for exercise in self.handin.exercises],
            commands=commands(self.handin),
            file=sheet.file,
            provenance=provenance(self.handin),
            runs=_runs(self.handin),
        )

    def text(self, markdown: str, where: str) -> list[Node]:
        """A Markdown text with its numbers."""

        def add_image(path: str) -> str:
            self.images[f"images/{path}"] = self.handin.file(path)
            return f"images/{path}"

        return nodes(self.handin.numbers.fill(markdown), add_image, where)

    def answer(self, exercise: Exercise) -> ExerciseBlock:
        points = "" if exercise.points is None else f" ({exercise.points} points)"
        review = self.handin.review(exercise) if exercise.review_of else ""
        is_exact = exercise.gradients
        return ExerciseBlock(
            title=f"{exercise.number} {exercise.title}{points}",
            review_of=exercise.review_of,
            review=self.text(review, f"review, {exercise.number}"),
            steps=calculation(SHEET, self.handin.solution) if is_exact else [],
            after_steps=_after_steps(self.handin) if is_exact else "",
            results=[
                RecipeBlock(
                    [self.figure(exercise, trainings, name) for name in trainings.figures],
                    list(_results(self.handin, trainings)),
                )
                for trainings in exercise.trainings
            ],
        )

    def figure(self, exercise: Exercise, trainings: Trainings, name: str) -> FigureBlock:
        handin, recipe, title = self.handin, trainings.recipe, FIGURES[name].title
        comparison = handin.comparisons[recipe]
        plot = handin.form.answers[exercise.number].plots[recipe, name]
        path = f"figures/{recipe}/{name}.svg"
        self.figures[path] = svg(FIGURES[name].draw(comparison))
        lines = sentences(trainings, name, handin.named[recipe], comparison.verdicts)
        observed = [handin.numbers.fill(line) for line in lines]
        about = f"{title}. {trainings.of.about.partition(chr(10))[0]}"
        subject = trainings.of.exercise.partition(" ")[2]
        return FigureBlock(
            file=path,
            title=title if subject == exercise.title else f"{subject}: {title.lower()}",
            caption=about,
            alt=" ".join([about, *observed]),
            expected=self.text(plot.expected, f"{recipe}, {name}, expected"),
            observed=observed,
            discussion=self.text(plot.discussion, f"{recipe}, {name}, discussion"),
        )


def _after_steps(handin: Handin) -> str:
    """The sentences under the calculation of 3.1."""
    loss = {line.quantity: line.value for line in handin.solution.lines}
    rises = (
        " The loss rises because the step at this learning rate is too long."
        if loss["L after"] > loss["L"]
        else ""
    )
    return handin.numbers.fill(
        "The update at this learning rate changes the loss from {{gradients.L}} to "
        f"{{{{gradients.L after}}}}.{rises} All gradients equal central differences in exact "
        "fractions."
    )


def _declaration(handin: Handin) -> Table:
    """The declaration of willingness, a row for each exercise of the sheet."""
    sheet, asked = handin.sheet, handin.sheet.willingness_points
    has_points = any(exercise.points is not None for exercise in sheet.exercises)
    rows = []
    for exercise in sheet.exercises:
        answer = handin.form.answers[exercise.number]
        row = [f"{exercise.number} {exercise.title}", "yes" if answer.hand_in else "no"]
        row.append({True: "yes", False: "no", None: "not declared"}[answer.present])
        if has_points:
            half = f"{(exercise.points or 0) / 2:g}" if answer.hand_in and answer.present else NONE
            row += [str(exercise.points), half]
        rows.append(row)
    header = ["Exercise", "handed in", "willing to present"]
    return Table(
        "Declaration of the willingness to present",
        [*header, "points", "for presenting"] if has_points else header,
        rows,
        f"The sheet gives {asked} points for the willingness to present." if asked else "",
    )


def _results(handin: Handin, trainings: Trainings) -> Iterator[Table]:
    """The results of the curves, and the learning rates that a search has tried."""
    numbers = handin.numbers
    rows = []
    for one in handin.named[trainings.recipe]:
        row = {
            key: numbers.show(f"{one.start}.{key}")
            for key in COLUMNS
            if f"{one.start}.{key}" in numbers.all
        }
        if f"{one.start}.final_low" in numbers.all:
            low, high = (numbers.show(f"{one.start}.final_{end}") for end in ("low", "high"))
            row["interval"] = f"{low} to {high}"
        rows.append({"": one.title} | row)
    keys = [
        key
        for key in COLUMNS
        if any(key in row for row in rows)
        and (key != "learning_rate" or trainings.of.varies == "optimizer")
        and (not key.endswith("loss") or "loss_over_epochs" in trainings.figures)
    ]
    note = "After the last epoch, except for the best. n: number of runs, one for each seed."
    if any(row["n"] == "1" for row in rows):
        note += (
            " With n = 1 the interval comes from the test images alone and says nothing about "
            "other seeds."
        )
    cells = [[row.get(key, NONE) for key in ("", *keys)] for row in rows]
    header = ["", *(COLUMNS[key] for key in keys)]
    yield Table(f"Results of {trainings.recipe}", header, cells, note)
    if len(handin.evidence[trainings.recipe].tried):
        yield _tried(handin, trainings.recipe)


def _tried(handin: Handin, recipe: str) -> Table:
    tried, final = handin.evidence[recipe].tried, handin.evidence[recipe].history
    chosen = set(zip(final["optimizer"], final["learning_rate"], strict=True))
    rates = sorted(tried["learning_rate"].unique(), reverse=True)
    rows = []
    for optimizer in tried["optimizer"].unique():
        row = [optimizer]
        for rate in rates:
            name = f"{recipe}.tried.{optimizer}.{rate:g}"
            cell = handin.numbers.show(name) if name in handin.numbers.all else NONE
            row.append(f"{cell} *" if (optimizer, rate) in chosen else cell)
        rows.append(row)
    notes = [
        "* chosen for the figure. Trainings that were behind halfway stopped there; a diverged one "
        "counts as chance.",
        *(f"{line[:1].upper()}{line[1:]}." for line in edges(Comparison(tried))),
    ]
    caption = "Learning rates tried: accuracy on validation images at the end of each training"
    return Table(caption, ["", *(f"{rate:g}" for rate in rates)], rows, " ".join(notes))


def _runs(handin: Handin) -> Table:
    rows = [
        [*(str(run[key]) for key in ("run_id", "run_name", "status")), str(run.get("git_commit"))]
        for _, run in handin.runs
    ]
    rows = [[*cells, commit[:9]] for *cells, commit in rows]
    header = ["run", "training", "status", "commit"]
    return Table("All runs behind this hand-in", header, rows, numbers=False)
