"""Handin: a form with the evidence for it, from which everything in the PDF follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from eml.analysis.verdicts import Verdict, verdicts
from eml.exact.check import check
from eml.exact.step import SHEET as GRADIENTS
from eml.exact.step import Solution, solve
from eml.handin.evidence import Evidence
from eml.handin.form import Answer, Form
from eml.handin.numbers import Number, Numbers, of_gradients, of_trainings
from eml.handin.rules import broken
from eml.handin.sheet import Exercise, Sheet

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
