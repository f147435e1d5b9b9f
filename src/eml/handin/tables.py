"""The tables of the PDF: declaration, results, learning rates tried, runs."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from eml.analysis.report import edges
from eml.handin.form import Form
from eml.handin.handin import Handin
from eml.handin.numbers import names_of, titles_of
from eml.handin.sheet import Trainings

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


def _table(
    caption: str, header: list[str], rows: list[list[str]], note: str = "", numbers: bool = True
) -> dict[str, Any]:
    return {"caption": caption, "header": header, "rows": rows, "note": note, "numbers": numbers}


def declaration(form: Form) -> dict[str, Any]:
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


def results(handin: Handin, each: Trainings) -> list[dict[str, Any]]:
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


def every_run(handin: Handin) -> Iterable[tuple[str, pd.Series]]:
    for recipe, evidence in handin.evidence.items():
        for frame in (evidence.history, evidence.tried):
            for _, run in frame.groupby("run_id", sort=False) if len(frame) else ():
                yield recipe, run.iloc[-1]


def runs(handin: Handin) -> dict[str, Any]:
    rows = [
        [
            str(run["run_id"]),
            str(run["run_name"]),
            str(run["status"]),
            str(run.get("git_commit", ""))[:9],
        ]
        for _, run in every_run(handin)
    ]
    return _table(
        "All runs behind this hand-in", ["run", "training", "status", "commit"], rows, numbers=False
    )
