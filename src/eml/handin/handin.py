"""Handin: a form with the evidence for it, from which everything in the PDF follows."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from eml.errors import UserError, printable
from eml.exact.check import check
from eml.exact.step import SHEET, Solution, solve
from eml.handin.document import Read
from eml.handin.evidence import Evidence, from_store
from eml.handin.form import Form, read_file, read_form
from eml.handin.numbers import NamedCurve, Number, named_curves, of_gradients, of_trainings
from eml.handin.sheet import Assignment, Exercise, Values, broken
from eml.tracking.find import names_in, open_others
from eml.tracking.store import open_to_read

REFERENCE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


@dataclass
class Handin:
    """A form, the evidence for it by recipe, and a way to read the files that the form names.

    Holds everything that decides the PDF, so that the PDF can be made again from the archive.
    """

    form: Form
    evidence: dict[str, Evidence]
    read: Read
    files: dict[str, bytes] = field(default_factory=dict)  # those that were read
    problems: dict[str, UserError] = field(default_factory=dict)  # by recipe: why it lacks evidence

    @property
    def exercises(self) -> list[Exercise]:
        """The exercises that are handed in."""
        return [e for e in self.form.sheet.exercises if self.form.exercise[e.number]["hand_in"]]

    @property
    def assignments(self) -> list[Assignment]:
        """Those of all exercises that are handed in."""
        return [assignment for exercise in self.exercises for assignment in exercise.trainings]

    @property
    def runs(self) -> list[tuple[str, Values]]:
        """The recipe of every run, and its parameters and tags."""
        return [(name, values) for name, of in self.evidence.items() for values in of.values]

    @cached_property
    def solution(self) -> Solution:
        """The exact step of 3.1, compared with central differences. Raises CheckError."""
        solution = solve(SHEET)
        check(SHEET, solution, autograd=False)
        return solution

    @cached_property
    def curves(self) -> dict[str, list[NamedCurve]]:
        """By recipe: its curves."""
        return {name: named_curves(name, of.final) for name, of in self.evidence.items()}

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """All numbers by name."""
        numbers: dict[str, Number] = {}
        if any(exercise.gradients for exercise in self.exercises):
            numbers |= of_gradients(self.solution)
        for recipe, evidence in self.evidence.items():
            numbers |= of_trainings(recipe, self.curves[recipe], evidence)
        return numbers

    @cached_property
    def draft(self) -> list[str]:
        """Why the hand-in is a draft: trainings that are smaller than the sheet asks."""
        return [
            f"{assignment.recipe}: {rule.says} asked for, {why}"
            for assignment in self.assignments
            for rule, why in broken(assignment.rules, self.evidence[assignment.recipe].values)
            if rule.draft
        ]

    def fill(self, text: str) -> str:
        """Replace each {{name}} by its number. Raises UserError, with some names, for no number."""

        def text_of(reference: re.Match[str]) -> str:
            name = reference[1].strip()
            if name in self.numbers:
                return self.numbers[name].shown
            first = name.partition(".")[0]
            near = [other for other in self.numbers if other.startswith(first)] or self.numbers
            raise UserError(
                f"there is no number {{{{{printable(name, 80)}}}}}: `eml handin numbers` lists "
                f"all, as {', '.join(list(near)[:8])}"
            )

        return REFERENCE.sub(text_of, text)

    def file(self, path: str) -> bytes:
        """Read the file at this path; keep it in `files`."""
        if path not in self.files:
            self.files[path] = self.read(path)
        return self.files[path]

    def review(self, exercise: Exercise) -> str:
        """Return the text of a review: as the form has it, or from the file that the form names."""
        text = str(self.form.exercise[exercise.number]["review"]).strip()
        if "\n" not in text and text.endswith(".md"):
            return self.file(text).decode("utf-8", errors="replace")
        return text


def load(file: Path, stores: str = "") -> Handin:
    """Load the hand-in of a form from the store.

    stores: those of others, read besides those that the form names.
    """
    form, folder = read_form(file), file.parent

    def read(path: str) -> bytes:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(f"{printable(path, 200)}: give a path below the folder of the form")
        return read_file(folder / path)

    handin = Handin(form, {}, read)
    others = []
    if handin.assignments:
        others = [*open_others(form.stores, folder), *open_others(names_in(stores))]
        open_to_read(others)
    for assignment in handin.assignments:
        recipe = assignment.recipe
        try:
            evidence, left_out = from_store(assignment, form.table(recipe)["runs"], others)
        except UserError as error:
            handin.problems[recipe] = UserError(f"{recipe}: {error}")
            continue
        handin.evidence[recipe] = evidence
        print("".join(f"{recipe}: {line}\n" for line in left_out), end="")
    return handin
