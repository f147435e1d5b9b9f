"""What stands in the PDF: from a form and its evidence to the data of the template."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from eml.analysis.fairness import differences, warnings
from eml.analysis.figures import FIGURES
from eml.analysis.options import FigureName
from eml.analysis.report import edges, svg
from eml.analysis.style import Caption
from eml.analysis.verdicts import Verdict, verdicts
from eml.handin.calculation import calculation
from eml.handin.commands import command
from eml.handin.evidence import Evidence
from eml.handin.form import Answer, Form, Plot
from eml.handin.numbers import Number, Numbers, names_of, of_gradients, of_trainings, titles_of
from eml.handin.observed import observed
from eml.handin.prose import lookalikes, tree
from eml.handin.rules import broken
from eml.handin.sheet import Exercise, Sheet, Trainings
from eml.models.exact_check import check
from eml.models.exact_gradients import Solution, solve
from eml.recipes.gradients import SHEET as GRADIENTS

Read = Callable[[str], bytes]  # the file at a path relative to the form


@dataclass
class Handin:
    """A form, the evidence for it by recipe, and a way to read the files that the form names.

    Holds everything that decides the PDF, so that it can be made again from the archive.
    """

    form: Form
    evidence: Mapping[str, Evidence]
    read: Read
    files: dict[str, bytes] = field(default_factory=dict)  # those that were read

    @property
    def sheet(self) -> Sheet:
        return self.form.sheet

    @property
    def exercises(self) -> list[Exercise]:
        """The exercises that are handed in."""
        return self.form.handed_in

    @cached_property
    def solution(self) -> Solution:
        """The exact step of 3.1, compared with central differences. Raises CheckError."""
        solution = solve(GRADIENTS)
        check(GRADIENTS, solution, autograd=False)
        return solution

    @cached_property
    def verdicts(self) -> dict[str, list[Verdict]]:
        return {name: verdicts(each.history, "last") for name, each in self.evidence.items()}

    @cached_property
    def numbers(self) -> Numbers:
        found: dict[str, Number] = {}
        for exercise in self.exercises:
            if exercise.gradients:
                found |= of_gradients(self.solution)
            for each in exercise.trainings:
                if each.recipe in self.evidence:
                    evidence, pairs = self.evidence[each.recipe], self.verdicts[each.recipe]
                    found |= of_trainings(each, evidence, pairs)
        return Numbers(found)

    @cached_property
    def draft(self) -> list[str]:
        """Why the hand-in is a draft: trainings that are smaller than the sheet asks."""
        found = []
        for each in (trainings for exercise in self.exercises for trainings in exercise.trainings):
            evidence = self.evidence[each.recipe]
            rules = [rule for rule in each.rules if rule.draft]
            for rule, why in broken(rules, evidence.history, evidence.tried):
                found.append(f"{each.recipe}: {rule.says} asked for, {why}")
        return found

    def file(self, path: str) -> bytes:
        """The file at this path; kept in `files`."""
        if path not in self.files:
            self.files[path] = self.read(path)
        return self.files[path]

    def review(self, answer: Answer) -> str:
        """The text of a review: as the form has it, or from the file that the form names."""
        text = answer.review.strip()
        if "\n" not in text and text.endswith(".md"):
            return self.file(text).decode("utf-8", errors="replace")
        return text


@dataclass(frozen=True)
class Content:
    """The data of the template, with what was drawn and printed for them."""

    data: dict[str, Any]
    figures: dict[str, bytes]  # SVG by path
    images: dict[str, bytes]  # of the texts, by path
    warnings: list[str]


def compose(handin: Handin) -> Content:
    """Work out everything that the PDF shows."""
    figures: dict[str, bytes] = {}
    images: dict[str, bytes] = {}
    remarks: list[str] = []

    def add_image(path: str) -> str:
        images[f"images/{path}"] = handin.file(path)
        return f"images/{path}"

    def text(markdown: str, where: str) -> list[dict[str, Any]]:
        return tree(handin.numbers.fill(markdown), add_image, where)

    def figure(exercise: Exercise, each: Trainings, name: FigureName, plot: Plot) -> dict[str, Any]:
        evidence, where = handin.evidence[each.recipe], f"{each.recipe}, {name}"
        path = f"figures/{each.recipe}/{name}.svg"
        caption = Caption(each.of.exercise, differences(evidence.history))
        figures[path] = svg(FIGURES[name](evidence.history, caption))
        seen = observed(each, name, evidence, handin.verdicts[each.recipe])
        sentences = [handin.numbers.fill(sentence) for sentence in seen]
        own = [item for item in handin.numbers.all.items() if item[0].startswith(f"{each.recipe}.")]
        remarks.extend(f"{where}: {line}" for line in lookalikes(plot.discussion, own))
        title = TITLES[name]
        about = each.of.about.partition("\n")[0]
        subject = each.of.exercise.partition(" ")[2]
        return {
            "file": path,
            "title": title if subject == exercise.title else f"{subject}: {title.lower()}",
            "caption": f"{title}. {about}",
            "alt": " ".join([f"{title}. {about}", *sentences]),
            "expected": text(plot.expected, f"{where}, expected"),
            "observed": sentences,
            "discussion": text(plot.discussion, f"{where}, discussion"),
        }

    exercises = []
    for exercise in handin.exercises:
        answer = handin.form.answers[exercise.number]
        points = "" if exercise.points is None else f" ({exercise.points} points)"
        content: dict[str, Any] = {"title": f"{exercise.number} {exercise.title}{points}"}
        if exercise.review_of:
            content["review_of"] = exercise.review_of
            content["review"] = text(handin.review(answer), f"review, {exercise.number}")
        if exercise.gradients:
            content["calculation"] = _calculation(handin)
        content["trainings"] = [
            {
                "figures": [
                    figure(exercise, each, name, answer.plots[each.recipe, name])
                    for name in each.figures
                ],
                "tables": _tables(handin, each),
            }
            for each in exercise.trainings
        ]
        exercises.append(content)
    form, sheet = handin.form, handin.sheet
    data = {
        "title": sheet.title,
        "course": sheet.course,
        "term": sheet.term,
        "names": list(form.names),
        "group": form.group,
        "date": form.date.isoformat(),
        "day": f"{form.date.day} {MONTHS[form.date.month - 1]} {form.date.year}",
        "draft": handin.draft,
        "declaration": _declaration(form),
        "exercises": exercises,
        "how": tree(_how_to_run(handin), add_image, "how to run"),
        "provenance": _provenance(handin),
        "runs": _runs(handin),
    }
    return Content(data, figures, images, remarks)


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


def _table(
    caption: str, header: list[str], rows: list[list[str]], note: str = "", numbers: bool = True
) -> dict[str, Any]:
    return {"caption": caption, "header": header, "rows": rows, "note": note, "numbers": numbers}


def _declaration(form: Form) -> dict[str, Any]:
    """The declaration of willingness, a row for each exercise of the sheet."""
    has_points = any(exercise.points is not None for exercise in form.sheet.exercises)
    rows = []
    for exercise in form.sheet.exercises:
        answer = form.answers[exercise.number]
        said = {True: "yes", False: "no", None: "not declared"}[answer.present]
        half = f"{(exercise.points or 0) / 2:g}" if answer.hand_in and answer.present else NONE
        points = [str(exercise.points), half] if has_points else []
        handed_in = "yes" if answer.hand_in else "no"
        rows.append([f"{exercise.number} {exercise.title}", handed_in, said, *points])
    header = ["Exercise", "handed in", "willing to present"]
    asked = form.sheet.willingness_points
    note = (
        "" if asked is None else f"The sheet gives {asked} points for the willingness to present."
    )
    return _table(
        "Declaration of the willingness to present",
        [*header, "points", "for presenting"] if has_points else header,
        rows,
        note,
    )


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


def _tables(handin: Handin, each: Trainings) -> list[dict[str, Any]]:
    """The results of each curve, and the learning rates that a search has tried."""
    evidence, numbers = handin.evidence[each.recipe], handin.numbers
    varies = each.of.varies
    named = list(
        zip(names_of(evidence.history, varies), titles_of(evidence.history, varies), strict=True)
    )
    rows = []
    for name, title in named:
        start = f"{each.recipe}.{name}." if name else f"{each.recipe}."
        row = {"": title}
        for key in COLUMNS:
            if start + key in numbers.all:
                row[key] = numbers.show(start + key)
        if start + "final_low" in numbers.all:
            row["interval"] = " to ".join(
                numbers.show(f"{start}final_{end}") for end in ("low", "high")
            )
        rows.append(row)
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    if varies != "optimizer":
        keys.remove("learning_rate")
    if "loss_over_epochs" not in each.figures:
        keys = [key for key in keys if not key.endswith("loss")]
    note = "After the last epoch, except for the best. n: number of runs, one for each seed."
    if any(row["n"] == "1" for row in rows):
        note += (
            " With n = 1 the interval comes from the test images alone and says nothing about "
            "other seeds."
        )
    tables = [
        _table(
            f"Results of {each.recipe}",
            ["", *(COLUMNS[key] for key in keys)],
            [[row[""], *(row.get(key, NONE) for key in keys)] for row in rows],
            note,
        )
    ]
    if len(evidence.tried):
        tables.append(_tried(handin, each))
    return tables


def _tried(handin: Handin, each: Trainings) -> dict[str, Any]:
    tried, final = (getattr(handin.evidence[each.recipe], name) for name in ("tried", "history"))
    chosen = set(zip(final["optimizer"], final["learning_rate"], strict=True))
    rates = sorted(tried["learning_rate"].unique(), reverse=True)
    rows = []
    for optimizer in tried["optimizer"].unique():
        row = [optimizer]
        for rate in rates:
            name = f"{each.recipe}.tried.{optimizer}.{rate:g}"
            shown = handin.numbers.show(name) if name in handin.numbers.all else NONE
            row.append(f"{shown} *" if (optimizer, rate) in chosen else shown)
        rows.append(row)
    return _table(
        "Learning rates tried: accuracy on validation images at the end of each training",
        ["", *(f"{rate:g}" for rate in rates)],
        rows,
        " ".join(
            [
                "* chosen for the figure. Trainings that were behind halfway stopped there; a "
                "diverged one counts as chance.",
                *(f"{line[:1].upper()}{line[1:]}." for line in edges(tried)),
            ]
        ),
    )


HOW_TO_RUN = """
Beyond the course's own environment the programs need MLflow and a few small packages. The archive
beside this PDF holds the source. In its folder `source`, on the cluster's login node:

```
conda activate em1
python -m venv --system-site-packages .venv && . .venv/bin/activate
pip install -e .
eml data    # fetches and verifies the data, for nodes without a network
```

Then these commands train everything that is shown here:

```
{commands}
```

As jobs of the cluster: add `--launcher slurm` and, where asked for, `--slurm_mem 5GB`. A training
that is longer than a job goes on in the next one (`docs/cluster.md`). `eml compare --plot all`
draws the figures from the store. `eml handin verify {file}.zip` works out every number and figure
of this PDF again.
"""


def _how_to_run(handin: Handin) -> str:
    """The steps beyond the course's own environment, and the command of each exercise."""
    made = [each for exercise in handin.exercises for each in exercise.trainings]
    commands = [f"eml {command(each, handin.evidence[each.recipe])}" for each in made]
    if any(exercise.gradients for exercise in handin.exercises):
        commands.insert(0, "eml gradients")
    return HOW_TO_RUN.format(commands="\n".join(commands), file=handin.sheet.file)


def _every_run(handin: Handin) -> Iterable[tuple[str, pd.Series]]:
    for recipe, evidence in handin.evidence.items():
        for frame in (evidence.history, evidence.tried):
            for _, run in frame.groupby("run_id", sort=False) if len(frame) else ():
                yield recipe, run.iloc[-1]


def _provenance(handin: Handin) -> list[str]:
    """What the runs have in common, or in what they differ, and the warnings about them."""
    lines = []
    for name, title in {
        "git_commit": "commit of the source",
        "dataset_digest": "data digest",
        "hardware": "hardware",
        "threads": "threads",
        "python": "Python",
        "torch": "PyTorch",
        "numpy": "NumPy",
        "mlflow": "MLflow",
    }.items():
        by_value: dict[str, list[str]] = {}
        for recipe, run in _every_run(handin):
            if isinstance(run.get(name), str):
                of = by_value.setdefault(run[name], [])
                if recipe not in of:
                    of.append(recipe)
        if len(by_value) == 1:
            lines.append(f"{title}: {next(iter(by_value))}")
        elif by_value:
            each = "; ".join(f"{value} ({', '.join(of)})" for value, of in by_value.items())
            lines.append(f"{title}: {each}")
    if any(run.get("git_dirty") == "true" for _, run in _every_run(handin)):
        lines.append("some runs were trained with uncommitted changes of the source")
    for recipe, evidence in handin.evidence.items():
        for warning in warnings(evidence.history):
            lines.append(f"{recipe}: {warning}")
    return lines


def _runs(handin: Handin) -> dict[str, Any]:
    rows = [
        [
            str(run["run_id"]),
            str(run["run_name"]),
            str(run["status"]),
            str(run.get("git_commit", ""))[:9],
        ]
        for _, run in _every_run(handin)
    ]
    return _table(
        "All runs behind this hand-in", ["run", "training", "status", "commit"], rows, numbers=False
    )
