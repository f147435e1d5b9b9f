"""What stands in the PDF: from a hand-in to the data of the template."""

from dataclasses import dataclass, field
from typing import Any

from eml.analysis.fairness import differences
from eml.analysis.figures import FIGURES
from eml.analysis.options import FigureName
from eml.analysis.report import svg
from eml.analysis.style import Caption
from eml.exact.step import SHEET as GRADIENTS
from eml.handin.calculation import calculation
from eml.handin.form import Plot
from eml.handin.handin import Handin
from eml.handin.observed import observed
from eml.handin.origin import how_to_run, provenance
from eml.handin.prose import lookalikes, tree
from eml.handin.sheet import Exercise, Trainings
from eml.handin.tables import declaration, results, runs

TITLES: dict[FigureName, str] = {
    "loss_over_epochs": "Train and test loss over the epochs",
    "test_accuracy_over_epochs": "Test accuracy over the epochs",
    "test_accuracy_over_train_seconds": "Test accuracy over the training time",
}
# In words, whatever the locale.
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


@dataclass
class Content:
    """The data of the template, with what was drawn and read for them."""

    data: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)  # SVG by path
    images: dict[str, bytes] = field(default_factory=dict)  # of the texts, by path
    warnings: list[str] = field(default_factory=list)


def compose(handin: Handin) -> Content:
    """Work out everything that the PDF shows."""
    content = Content()
    form, sheet = handin.form, handin.sheet
    content.data = {
        "title": sheet.title,
        "course": sheet.course,
        "term": sheet.term,
        "names": list(form.names),
        "group": form.group,
        "date": form.date.isoformat(),
        "day": f"{form.date.day} {MONTHS[form.date.month - 1]} {form.date.year}",
        "draft": handin.draft,
        "declaration": declaration(form),
        "exercises": [_exercise(handin, content, exercise) for exercise in handin.exercises],
        "how": _text(handin, content, how_to_run(handin), "how to run"),
        "provenance": provenance(handin),
        "runs": runs(handin),
    }
    return content


def _text(handin: Handin, content: Content, markdown: str, where: str) -> list[dict[str, Any]]:
    """The tree of a text, with its numbers; its images are kept in `content`."""

    def add_image(path: str) -> str:
        content.images[f"images/{path}"] = handin.file(path)
        return f"images/{path}"

    return tree(handin.numbers.fill(markdown), add_image, where)


def _exercise(handin: Handin, content: Content, exercise: Exercise) -> dict[str, Any]:
    answer = handin.form.answers[exercise.number]
    points = "" if exercise.points is None else f" ({exercise.points} points)"
    found: dict[str, Any] = {"title": f"{exercise.number} {exercise.title}{points}"}
    if exercise.review_of:
        where = f"review, {exercise.number}"
        found["review_of"] = exercise.review_of
        found["review"] = _text(handin, content, handin.review(answer), where)
    if exercise.gradients:
        found["calculation"] = _calculation(handin)
    found["trainings"] = [
        {
            "figures": [
                _figure(handin, content, exercise, each, name, answer.plots[each.recipe, name])
                for name in each.figures
            ],
            "tables": results(handin, each),
        }
        for each in exercise.trainings
    ]
    return found


def _figure(
    handin: Handin,
    content: Content,
    exercise: Exercise,
    trainings: Trainings,
    name: FigureName,
    plot: Plot,
) -> dict[str, Any]:
    recipe, title = trainings.recipe, TITLES[name]
    evidence, where = handin.evidence[recipe], f"{recipe}, {name}"
    path = f"figures/{recipe}/{name}.svg"
    caption = Caption(trainings.of.exercise, differences(evidence.history))
    content.figures[path] = svg(FIGURES[name](evidence.history, caption))
    seen = observed(trainings, name, evidence, handin.verdicts[recipe])
    sentences = [handin.numbers.fill(sentence) for sentence in seen]
    own = [item for item in handin.numbers.all.items() if item[0].startswith(f"{recipe}.")]
    content.warnings += [f"{where}: {line}" for line in lookalikes(plot.discussion, own)]
    about = trainings.of.about.partition("\n")[0]
    subject = trainings.of.exercise.partition(" ")[2]
    return {
        "file": path,
        "title": title if subject == exercise.title else f"{subject}: {title.lower()}",
        "caption": f"{title}. {about}",
        "alt": " ".join([f"{title}. {about}", *sentences]),
        "expected": _text(handin, content, plot.expected, f"{where}, expected"),
        "observed": sentences,
        "discussion": _text(handin, content, plot.discussion, f"{where}, discussion"),
    }


def _calculation(handin: Handin) -> dict[str, Any]:
    after = handin.numbers.fill(
        "The update at this learning rate changes the loss from {{gradients.L}} to "
        "{{gradients.L after}}"
    )
    before, now = (
        line.value for line in handin.solution.lines if line.quantity in ("L", "L after")
    )
    why = (
        ". The loss rises although the step goes downhill, because at this learning rate the step "
        "is too long; a smaller one would lower the loss."
        if now > before
        else "."
    )
    checked = (
        " Every gradient was compared with central differences in exact fractions: they are equal."
    )
    return {"steps": calculation(GRADIENTS, handin.solution), "after": after + why + checked}
