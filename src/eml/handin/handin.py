"""Handin: a form with the evidence for it, from which everything in the PDF follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from eml.analysis.comparison import Comparison
from eml.exact.check import check
from eml.exact.step import SHEET as SHEET
from eml.exact.step import Solution, solve
from eml.handin.evidence import Evidence
from eml.handin.form import Form
from eml.handin.numbers import NamedCurve, Number, Numbers, named_curves, of_gradients, of_trainings
from eml.handin.sheet import Exercise, Sheet, Trainings, broken
from eml.recipes import RECIPES

Read = Callable[[str], bytes]  # the file at a path relative to the form


@dataclass
class Handin:
    """A form, the evidence for it by recipe, and a way to read the files that the form names.

    Holds everything that decides the PDF, so that the PDF can be made again from the archive.
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

    @property
    def trainings(self) -> list[Trainings]:
        """Those of all exercises that are handed in."""
        return [trainings for exercise in self.exercises for trainings in exercise.trainings]

    @property
    def runs(self) -> list[tuple[str, pd.Series]]:
        """The recipe and the last row of every run."""
        return [
            (recipe, rows.iloc[-1])
            for recipe, evidence in self.evidence.items()
            for frame in (evidence.history, evidence.tried)
            if len(frame)
            for _, rows in frame.groupby("run_id", sort=False)
        ]

    @cached_property
    def solution(self) -> Solution:
        """The exact step of 3.1, compared with central differences. Raises CheckError."""
        solution = solve(SHEET)
        check(SHEET, solution, autograd=False)
        return solution

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """By recipe: the comparison of its trainings in the figures."""
        recipes = {name: RECIPES[name] for name in self.evidence}
        return {
            name: Comparison(
                self.evidence[name].history, exercise=recipe.exercise, varies=recipe.varies
            )
            for name, recipe in recipes.items()
        }

    @cached_property
    def named(self) -> dict[str, list[NamedCurve]]:
        """By recipe: its curves."""
        return {
            each.recipe: named_curves(each.recipe, self.comparisons[each.recipe])
            for each in self.trainings
            if each.recipe in self.evidence
        }

    @cached_property
    def numbers(self) -> Numbers:
        numbers: dict[str, Number] = {}
        if any(exercise.gradients for exercise in self.exercises):
            numbers |= of_gradients(self.solution)
        for recipe, named in self.named.items():
            tried = self.evidence[recipe].tried
            numbers |= of_trainings(recipe, named, self.comparisons[recipe], tried)
        return Numbers(numbers)

    @cached_property
    def draft(self) -> list[str]:
        """Why the hand-in is a draft: trainings that are smaller than the sheet asks."""
        return [
            f"{each.recipe}: {rule.says} asked for, {why}"
            for each in self.trainings
            for rule, why in broken(
                [rule for rule in each.rules if rule.draft],
                self.evidence[each.recipe].history,
                self.evidence[each.recipe].tried,
            )
        ]

    def file(self, path: str) -> bytes:
        """The file at this path; kept in `files`."""
        if path not in self.files:
            self.files[path] = self.read(path)
        return self.files[path]

    def review(self, exercise: Exercise) -> str:
        """The text of a review: as the form has it, or from the file that the form names."""
        text = self.form.answers[exercise.number].review.strip()
        if "\n" not in text and text.endswith(".md"):
            return self.file(text).decode("utf-8", errors="replace")
        return text
