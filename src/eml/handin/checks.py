"""Checks a hand-in against its sheet, rule by rule."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from eml.analysis.figures import FIGURES
from eml.errors import UserError
from eml.handin.handin import Handin
from eml.handin.sheet import Exercise, Trainings

NONE: Mapping[str, UserError] = MappingProxyType({})


class Check(NamedTuple):
    """A rule, and why the hand-in breaks it; "" if it does not."""

    part: str  # "top sheet", or the number of an exercise
    says: str
    why: str

    def __str__(self) -> str:
        return f"{'failed' if self.why else 'passed'}  {self.part}: {self.says}" + (
            f": {self.why}" if self.why else ""
        )


def checks(handin: Handin, problems: Mapping[str, UserError] = NONE) -> list[Check]:
    """All rules of the sheet, in its order. problems: by recipe, why there is no evidence."""
    lines = [Check("top sheet", *line) for line in _top_sheet(handin)]
    for exercise in handin.sheet.exercises:
        lines += [Check(exercise.number, *line) for line in _declared(handin, exercise)]
        for trainings in exercise.trainings if exercise in handin.exercises else ():
            if problem := problems.get(trainings.recipe):
                of_recipe = iter([(": trained", problem.shown())])
            else:
                of_recipe = _trained(handin, exercise, trainings)
            lines += [
                Check(exercise.number, f"{trainings.recipe}{says}", why) for says, why in of_recipe
            ]
    return lines


def _top_sheet(handin: Handin) -> Iterator[tuple[str, str]]:
    names, most = handin.form.names, handin.sheet.most_names
    blank = not names or not all(name.strip() for name in names)
    twice = "a name is there twice" if len(set(names)) < len(names) else ""
    yield "names", "write each name into names" if blank else twice
    yield f"at most {most} names", f"there are {len(names)}" if len(names) > most else ""
    yield "an exercise is handed in", "" if handin.exercises else "hand_in is false for all"


def _declared(handin: Handin, exercise: Exercise) -> Iterator[tuple[str, str]]:
    answer = handin.form.answers[exercise.number]
    if not answer.hand_in:
        why = "the exercise is not handed in: set present = false" if answer.present else ""
        yield "declared only for exercises that are handed in", why
        return
    why = "write true or false into present" if answer.present is None else ""
    yield "willingness to present declared", why
    if exercise.review_of:
        try:
            why = _empty(handin.review(exercise))
        except UserError as error:
            why = error.shown()
        yield "review of the paper", why
    if exercise.gradients:
        yield "every value calculated", ""


def _trained(handin: Handin, exercise: Exercise, trainings: Trainings) -> Iterator[tuple[str, str]]:
    evidence, comparison = handin.evidence[trainings.recipe], handin.comparisons[trainings.recipe]
    unfinished = [
        f"run {each.run_id} has {each.last_epoch} of {each.values['epochs']} epochs"
        for each in comparison.trainings
        if each.unfinished
    ]
    yield ": every training has ended", ", ".join(unfinished)
    for rule in trainings.rules:
        yield f": {rule.says}", rule.why_broken(evidence.history, evidence.tried)
    for figure in trainings.figures:
        plot = handin.form.answers[exercise.number].plots[trainings.recipe, figure]
        missing = [name for name in FIGURES[figure].needs if not comparison.has(name)]
        why = f"the runs have no {' and no '.join(missing)}" if missing else ""
        yield f", {figure}: drawn", why
        yield f", {figure}: expected", _empty(plot.expected)
        yield f", {figure}: discussion", _empty(plot.discussion)


def _empty(text: str) -> str:
    return "" if text.strip() else "the text is empty"
