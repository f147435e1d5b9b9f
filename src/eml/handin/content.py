"""Composes the PDF's content: from a hand-in to the values of the template."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from itertools import groupby

from eml.analysis.curves import Training
from eml.analysis.fairness import warnings
from eml.analysis.figures import FIGURES
from eml.analysis.report import edges, svg, undertuned
from eml.config import AUTO, Config
from eml.exact.step import PARAMETERS, SHEET, Solution, Value
from eml.handin.document import Document, ExerciseBlock, FigureBlock, Line, Section, Table
from eml.handin.evidence import Evidence
from eml.handin.handin import Handin
from eml.handin.numbers import plain
from eml.handin.sentences import sentences
from eml.handin.sheet import Assignment, Exercise
from eml.models.optimizers import OPTIMIZERS

# The field of Config behind an option of another name; an option in the plural has all values.
FIELDS = {
    "lr": "learning_rate",
    "lrs": "learning_rate",
    "seeds": "seed",
    "optimizers": "optimizer",
    "search_epochs": "epochs",
    "devices": "device_type",
}
MEANT_BY_AUTO = {"momentum": Config.momentum, "seeds": "1"}  # where it is one value for all
OF_THE_SEARCH = ("lrs", "optimizers", "search_epochs")  # options
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
RUN = {"run_id": None, "run_name": None, "status": None, "git_commit": 9}  # characters printed
LETTERS = {"x": "X", "y": "Y"} | PARAMETERS | {"weights_1": "W1"}
SHORT = 27  # characters of a calculation and its value that fit in a column
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


def compose(handin: Handin) -> Document:
    """Work out everything that the PDF shows but the images."""
    form = handin.form
    return Document(
        sheet=form.sheet,
        names=form.names,
        group=form.group,
        date=form.date.isoformat(),
        draft=handin.draft,
        declared={n: (e["hand_in"], e["present"]) for n, e in form.exercise.items()},
        answers=[_answer(handin, exercise) for exercise in handin.exercises],
        commands=[
            *("eml gradients" for exercise in handin.exercises if exercise.gradients),
            *(command(a, handin.evidence[a.recipe]) for a in handin.assignments),
        ],
        provenance=_provenance(handin),
        runs=[[str(run.get(key))[:end] for key, end in RUN.items()] for _, run in handin.runs],
    )


def draw_figures(handin: Handin) -> dict[str, bytes]:
    """Draw the figures of all exercises as SVG, by path."""
    return {
        f"figures/{a.recipe}/{name}.svg": svg(FIGURES[name].draw(handin.evidence[a.recipe].final))
        for a in handin.assignments
        for name in a.figures
    }


def _answer(handin: Handin, exercise: Exercise) -> ExerciseBlock:
    review = handin.form.exercise[exercise.number].get("review", "")
    results: list[FigureBlock | Table] = []
    for assignment in exercise.trainings:
        results += [_figure(handin, exercise, assignment, name) for name in assignment.figures]
        results.append(_results(handin, assignment))
        if handin.evidence[assignment.recipe].tried.trainings:
            results.append(_tried(handin, assignment.recipe))
    return ExerciseBlock(
        exercise=exercise,
        review=handin.parsed(review),
        calculation=_calculation(handin.solution) if exercise.gradients else [],
        results=results,
    )


def _figure(handin: Handin, exercise: Exercise, assignment: Assignment, name: str) -> FigureBlock:
    recipe, title = assignment.recipe, FIGURES[name].title
    texts = {k: handin.parsed(text) for k, text in handin.form.table(recipe)[name].items()}
    comparison = handin.evidence[recipe].final
    observed = sentences(assignment, name, handin.curves[recipe], comparison)
    subject = assignment.of.exercise.partition(" ")[2]
    return FigureBlock(
        recipe=recipe,
        name=name,
        title=title if subject == exercise.title else f"{subject}: {title.lower()}",
        caption=f"{title}. {assignment.of.about.partition(chr(10))[0]}",
        observed=[handin.fill(sentence) for sentence in observed],
        **texts,
    )


def _calculation(solution: Solution) -> list[Section]:
    """Write 3.1 in sections: what is given, each step, all gradients and parameters together.

    The texts are made of numbers and the names of quantities alone, so that they hold no code.
    """
    rate = Line("lambda", "", str(SHEET.learning_rate), _decimal(SHEET.learning_rate))
    sections = [Section("Given", "", 3, [*_matrices("", vars(SHEET), LETTERS), rate])]
    together = {
        "Gradients of the first layer": ("The gradients together", "dL/d", solution.gradient),
        "Updated parameters": ("The updated parameters together", "new ", vars(solution.after)),
    }
    for section, group in groupby(solution.lines, key=lambda line: line.section):
        title, _, formula = section.partition(":")
        lines = [
            Line(quantity, working, str(value) if working != str(value) else "", _decimal(value))
            for _, quantity, working, value in group
        ]
        longest = max(len(line.working + line.value + line.decimal) for line in lines)
        columns = len(SHEET.bias_1) if longest <= SHORT else 1
        sections.append(Section(title, formula.strip(), columns, lines))
        if title in together:
            title, prefix, values = together[title]
            sections.append(Section(title, "", 4, _matrices(prefix, values, PARAMETERS)))
    return sections


def _matrices(prefix: str, values: Mapping[str, Value], names: Iterable[str]) -> list[Line]:
    """Return all numbers of each parameter, or of the samples, in one line."""
    return [Line(prefix + LETTERS[name], _nested(values[name]), "", "") for name in names]


def _nested(value: Value) -> str:
    return str(value) if isinstance(value, Fraction) else f"[{', '.join(map(_nested, value))}]"


def _decimal(value: Fraction) -> str:
    """Return " = 2.5" for 5/2, " approx 0.333333" for 1/3, and "" for a whole number."""
    if value.denominator == 1:
        return ""
    decimal = Fraction(f"{float(value):.6g}")
    return f" {'=' if decimal == value else 'approx'} {float(decimal):g}"


def _results(handin: Handin, assignment: Assignment) -> Table:
    """List the results of the curves, in the columns that any of them has."""
    curves, numbers = handin.curves[assignment.recipe], handin.numbers
    columns = {"": [one.title for one in curves]}
    for title, keys in COLUMNS.items():
        if (title == "learning rate" and assignment.of.varies != "optimizer") or (
            title.endswith("loss") and "loss_over_epochs" not in assignment.figures
        ):
            continue
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
    """List the learning rates that a search has tried."""
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
        "* chosen for the figure. A diverged training counts as chance.",
        *(
            f"{line[:1].upper()}{line[1:]}."
            for line in (*undertuned(evidence.tried), *edges(evidence.tried))
        ),
    ]
    caption = "Learning rates tried: accuracy on validation images at the end of each training"
    return Table(caption, ["", *(f"{rate:g}" for rate in rates)], rows, " ".join(notes))


def command(assignment: Assignment, evidence: Evidence) -> str:
    """Return the command that trains the runs, with the options that differ from their defaults."""
    tried, final = evidence.tried.trainings, evidence.final.trainings
    parts = ["eml", assignment.recipe]
    for option in fields(assignment.of.options):
        name, default = FIELDS.get(option.name, option.name), option.default
        listed = tried if option.name in OF_THE_SEARCH and tried else final
        if name not in listed[0].values or (option.name == "search_epochs" and not tried):
            continue
        texts = dict.fromkeys(plain(training.values[name]) for training in listed)
        if option.name in MEANT_BY_AUTO:
            default = MEANT_BY_AUTO[option.name]
        elif default == AUTO:
            pairs = {(t.values["optimizer"], t.values["learning_rate"]) for t in listed}
            if pairs == _default_rates(listed, option.name == "lrs"):
                continue
        if texts.keys() != set(plain(default).lower().split(",")):
            parts.append(f"--{option.name} {shlex.quote(','.join(texts))}")
    return " ".join(parts)


def _default_rates(trainings: Sequence[Training], of_search: bool) -> set[tuple[str, float]]:
    """The optimizers of trainings, each with the rates that `auto` stands for."""
    models = {t.values["optimizer"]: t.values["model"] for t in trainings}
    return {
        (name, rate)
        for name, model in models.items()
        for rate in (OPTIMIZERS[name].searched if of_search else [OPTIMIZERS[name].rate(model)])
    }


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
