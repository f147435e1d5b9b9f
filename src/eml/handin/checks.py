"""Checks a hand-in against its sheet, rule by rule."""

from collections.abc import Iterator
from typing import NamedTuple

from eml.analysis.figures import FIGURES
from eml.errors import UserError
from eml.handin.handin import Handin
from eml.handin.sheet import Assignment, Exercise, broken


class Check(NamedTuple):
    """A rule, and why the hand-in breaks it; "" if it does not."""

    part: str  # "top sheet", or the number of an exercise
    says: str
    why: str

    def __str__(self) -> str:
        line = f"{'failed' if self.why else 'passed'}  {self.part}: {self.says}"
        return f"{line}: {self.why}" if self.why else line


def checks(handin: Handin) -> list[Check]:
    """Check all rules of the sheet, in its order."""
    lines = [Check("top sheet", *line) for line in _top_sheet(handin)]
    for exercise in handin.form.sheet.exercises:
        lines += [Check(exercise.number, *line) for line in _declared(handin, exercise)]
        for assignment in exercise.trainings if exercise in handin.exercises else ():
            lines += [Check(exercise.number, *line) for line in _trained(handin, assignment)]
    return lines


def _top_sheet(handin: Handin) -> Iterator[tuple[str, str]]:
    names, most = handin.form.names, handin.form.sheet.most_names
    blank = not names or not all(name.strip() for name in names)
    twice = "a name is there twice" if len(set(names)) < len(names) else ""
    yield "names", "write each name into names" if blank else twice
    yield f"at most {most} names", f"there are {len(names)}" if len(names) > most else ""
    yield "an exercise is handed in", "" if handin.exercises else "hand_in is false for all"


def _declared(handin: Handin, exercise: Exercise) -> Iterator[tuple[str, str]]:
    answer = handin.form.exercise[exercise.number]
    if not answer["hand_in"]:
        why = "the exercise is not handed in: set present = false" if answer["present"] else ""
        yield "declared only for exercises that are handed in", why
        return
    why = "write true or false into present" if answer["present"] == "" else ""
    yield "willingness to present declared", why
    if exercise.review_of:
        try:
            why = _empty(handin.review(exercise))
        except UserError as error:
            why = error.shown()
        yield "review of the paper", why
    if exercise.gradients:
        yield "every value calculated", ""


def _trained(handin: Handin, assignment: Assignment) -> Iterator[tuple[str, str]]:
    recipe = assignment.recipe
    if problem := handin.problems.get(recipe):
        yield f"{recipe}: trained", problem.shown()
        return
    evidence = handin.evidence[recipe]
    unfinished = [
        f"run {training.run_id} has {training.last_epoch} of {training.values['epochs']} epochs"
        for training in evidence.final.trainings
        if training.unfinished
    ]
    yield f"{recipe}: every training has ended", ", ".join(unfinished)
    reasons = dict(broken(assignment.rules, evidence.values))
    for rule in assignment.rules:
        yield f"{recipe}: {rule.says}", reasons.get(rule, "")
    for figure in assignment.figures:
        missing = [name for name in FIGURES[figure].needs if not evidence.final.has(name)]
        why = f"the runs have no {' and no '.join(missing)}" if missing else ""
        yield f"{recipe}, {figure}: drawn", why
        for name, text in handin.form.table(recipe)[figure].items():
            yield f"{recipe}, {figure}: {name}", _empty(text)


def _empty(text: str) -> str:
    return "" if text.strip() else "the text is empty"
