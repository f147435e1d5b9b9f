"""A sheet of the course, read from sheets/NAME.toml: exercises, points, figures, and rules."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pandas as pd

from eml.analysis.labels import words
from eml.config import one_of
from eml.recipes import RECIPES
from eml.recipes.recipe import Recipe

SHEETS = files("eml.handin") / "sheets"
Values = Mapping[str, Any]  # the parameters and tags of a training


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Conditions that the sheet sets on one field of the trainings of an exercise."""

    says: str  # in words
    field: str  # a parameter or tag of the trainings
    only: Sequence[Any] = ()  # every training has one of these values
    include: Sequence[Any] = ()  # the trainings have all of these values
    between: Sequence[Any] = ()  # lowest and highest value that at_least counts
    at_least: int = 0  # number of different values
    tried_by: str = ""  # at_least counts for each value of this field, over figures and search
    one_for: str = ""  # each value of this field has one value
    draft: bool = False  # whether trainings that break the rule make the hand-in a draft

    def why_broken(self, final: Sequence[Values], tried: Sequence[Values]) -> str:
        """Return why trainings break the rule; "" if they keep it.

        final: of the trainings in the figures. tried: of those of a search; may be empty.
        """
        if self.tried_by:
            counts = self._counts_by(self.tried_by, [*final, *tried])
            return ", ".join(f"{n} for {name}" for name, n in counts if n < self.at_least)
        counts = self._counts_by(self.one_for, final) if self.one_for else []
        if several := [name for name, n in counts if n > 1]:
            return f"several for {', '.join(several)}"
        values = sorted({row[self.field] for row in final if not pd.isna(row.get(self.field))})
        others = [v for v in values if self.only and v not in self.only]
        counted = [v for v in values if not self.between or self.between[0] <= v <= self.between[1]]
        if not values or others or set(self.include) - set(values) or len(counted) < self.at_least:
            return f"found {', '.join(words(self.field, value) for value in values) or 'none'}"
        return ""

    def _counts_by(self, key: str, rows: Sequence[Values]) -> list[tuple[str, int]]:
        """Return the values of `key` in order, with the number of values of the rule's field."""
        pairs = {(str(row[key]), row[self.field]) for row in rows}
        return sorted(Counter(name for name, _ in pairs).items())


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The trainings of one recipe that an exercise asks for, and their figures."""

    recipe: str
    figures: Sequence[str]
    rules: Sequence[Rule]
    without_gpu: Mapping[str, Any] = field(default_factory=dict)  # options where there is no GPU

    @property
    def of(self) -> Recipe:
        recipe: Recipe = RECIPES[self.recipe]
        return recipe


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise of a sheet. Its answer: a review, the exact gradients, or trainings."""

    number: str
    title: str
    points: int | None = None
    review_of: str = ""
    gradients: bool = False
    code: Sequence[str] = ()  # the files that implement it, below src/eml
    trainings: Sequence[Assignment] = ()


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One sheet of one year."""

    name: str  # of the file: "ex3-2025"
    course: str
    term: str
    title: str
    file: str  # the hand-in's file name, without ending
    most_names: int
    exercises: Sequence[Exercise]
    willingness_points: int | None = None

    @property
    def trainings(self) -> list[Assignment]:
        """Those of all exercises."""
        return [assignment for exercise in self.exercises for assignment in exercise.trainings]


def judged(rules: Sequence[Rule], values: Sequence[Values]) -> list[tuple[Rule, str]]:
    """Return each rule, and why trainings break it; "" if they keep it.

    values: of the trainings in the figures, and of those of a search, which have validation images.
    """
    final = [row for row in values if not row["validation"]] or values
    tried = [row for row in values if row["validation"]] if len(final) < len(values) else []
    return [(rule, rule.why_broken(final, tried)) for rule in rules]


def sheet_names() -> list[str]:
    """Return the names of all sheets."""
    return sorted(file.name.removesuffix(".toml") for file in SHEETS.iterdir())


def load_sheet(name: str) -> Sheet:
    """Read the sheet with this name. Raises ConfigError, with the valid names, if there is none."""
    one_of("sheet", name, sheet_names())
    content = tomllib.loads((SHEETS / f"{name}.toml").read_text("utf-8"))
    exercises = content.pop("exercise")
    for exercise in exercises:
        exercise["trainings"] = [
            Assignment(**row | {"rules": [Rule(**rule) for rule in row["rules"]]})
            for row in exercise.get("trainings", ())
        ]
    return Sheet(name=name, exercises=[Exercise(**row) for row in exercises], **content)
