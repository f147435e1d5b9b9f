"""Checks a hand-in against its sheet, rule by rule."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from eml.analysis.curves import trainings_of
from eml.analysis.options import FigureName
from eml.errors import UserError
from eml.handin.evidence import Evidence
from eml.handin.handin import Handin
from eml.handin.rules import broken
from eml.handin.sheet import Exercise

# The columns that a figure needs.
NEEDS: dict[FigureName, tuple[str, ...]] = {
    "loss_over_epochs": ("train_loss", "test_loss"),
    "test_accuracy_over_epochs": ("test_accuracy",),
    "test_accuracy_over_train_seconds": ("test_accuracy", "train_seconds"),
}


NONE: Mapping[str, UserError] = MappingProxyType({})


class Check(NamedTuple):
    """A rule, and why the hand-in breaks it; "" if it does not."""

    of: str  # "the top sheet", or the number of an exercise
    says: str
    why: str

    def __str__(self) -> str:
        return f"{'failed' if self.why else 'passed'}  {self.of}: {self.says}" + (
            f": {self.why}" if self.why else ""
        )


def checks(handin: Handin, problems: Mapping[str, UserError] = NONE) -> list[Check]:
    """All rules of the sheet, in its order. problems: by recipe, why there is no evidence."""
    found = [*_top_sheet(handin)]
    for exercise in handin.sheet.exercises:
        found += [
            Check(exercise.number, says, why)
            for says, why in _of_exercise(handin, exercise, problems)
        ]
    return found


def _top_sheet(handin: Handin) -> Iterator[Check]:
    names, most = handin.form.names, handin.sheet.most_names
    of = "top sheet"
    blank = not names or not all(name.strip() for name in names)
    twice = len(set(names)) < len(names)
    why = "write each name into names" if blank else "a name is there twice" if twice else ""
    yield Check(of, "names", why)
    yield Check(of, f"at most {most} names", f"there are {len(names)}" if len(names) > most else "")
    yield Check(
        of, "an exercise is handed in", "" if handin.exercises else "hand_in is false for all"
    )


def _of_exercise(
    handin: Handin, exercise: Exercise, problems: Mapping[str, UserError]
) -> Iterator[tuple[str, str]]:
    answer = handin.form.answers[exercise.number]
    if not answer.hand_in:
        # Only exercises that are handed in can be presented.
        why = "the exercise is not handed in: set present = false" if answer.present else ""
        yield "willing to present what is handed in alone", why
        return
    why = "write true or false into present" if answer.present is None else ""
    yield "willingness to present declared", why
    if exercise.review_of:
        yield "review of the paper", _why_no_review(handin, exercise)
    if exercise.gradients:
        yield "every value calculated", ""
    for trainings in exercise.trainings:
        if trainings.recipe in problems:
            yield f"{trainings.recipe}: trained", problems[trainings.recipe].shown()
            continue
        evidence = handin.evidence[trainings.recipe]
        whys = dict(broken(trainings.rules, evidence.history, evidence.tried))
        yield f"{trainings.recipe}: every training has ended", _unfinished(evidence)
        for rule in trainings.rules:
            yield f"{trainings.recipe}: {rule.says}", whys.get(rule, "")
        for figure in trainings.figures:
            plot = answer.plots[trainings.recipe, figure]
            name = f"{trainings.recipe}, {figure}"
            yield f"{name}: drawn", _lacks(evidence, figure)
            yield f"{name}: expected", "" if plot.expected.strip() else "the text is empty"
            yield f"{name}: discussion", "" if plot.discussion.strip() else "the text is empty"


def _why_no_review(handin: Handin, exercise: Exercise) -> str:
    try:
        text = handin.review(handin.form.answers[exercise.number])
    except UserError as error:
        return error.shown()
    return "" if text.strip() else "the text is empty"


def _unfinished(evidence: Evidence) -> str:
    return ", ".join(
        f"run {each.run_id} has {each.last_epoch} of {each.values['epochs']} epochs"
        for each in trainings_of(evidence.history)
        if each.unfinished
    )


def _lacks(evidence: Evidence, figure: FigureName) -> str:
    missing = [n for n in NEEDS[figure] if evidence.history[n].isna().all()]
    return f"the runs have no {' and no '.join(missing)}" if missing else ""
