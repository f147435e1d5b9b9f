"""A sheet of the course, read from sheets/NAME.toml: exercises, points, figures, and rules."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

import pandas as pd

from eml.analysis.labels import words
from eml.config import one_of
from eml.recipes import RECIPES
from eml.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Conditions that the sheet sets on one field of the runs of an exercise."""

    says: str  # in words
    field: str  # a column of the history
    only: tuple = ()  # every run has one of these values
    include: tuple = ()  # the runs have all of these values
    between: tuple = ()  # lowest and highest value that at_least counts
    at_least: int = 0  # number of different values
    tried_by: str = ""  # at_least counts for each value of this field, over figures and search
    one_for: str = ""  # each value of this field has one value
    draft: bool = False  # whether runs that break the rule make the hand-in a draft

    def why_broken(self, rows: pd.DataFrame, tried: pd.DataFrame) -> str:
        """Why trainings break the rule; "" if they keep it.

        rows: one or more rows for each run in the figures. tried: the same for the trainings of a
        search; may be empty.
        """
        if self.field not in rows:
            return f"the runs do not say their {self.field}"
        if self.tried_by:
            counts = pd.concat([rows, tried]).groupby(self.tried_by)[self.field].nunique()
            return ", ".join(f"{n} for {name}" for name, n in counts.items() if n < self.at_least)
        values = sorted(rows[self.field].dropna().unique())
        if self.only and (other := [value for value in values if value not in self.only]):
            return f"found {self._listed(other)}"
        if missing := [value for value in self.include if value not in values]:
            return f"{self._listed(missing)} is missing"
        if self.one_for:
            counts = rows.groupby(self.one_for)[self.field].nunique()
            if several := [str(name) for name, count in counts.items() if count > 1]:
                return f"several for {', '.join(several)}"
        if self.between:
            lowest, highest = self.between
            values = [value for value in values if lowest <= value <= highest]
        return f"found {self._listed(values) or 'none'}" if len(values) < self.at_least else ""

    def _listed(self, values: Iterable) -> str:
        return ", ".join(words(self.field, value) for value in values)


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of one recipe that an exercise asks for, and their figures."""

    recipe: str
    figures: tuple[str, ...]
    rules: tuple[Rule, ...]
    without_gpu: dict[str, Any]  # options of the recipe on a machine without GPU

    @property
    def of(self) -> Recipe:
        return RECIPES[self.recipe]


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise of a sheet. Its answer: a review, the exact gradients, or trainings."""

    number: str
    title: str
    points: int | None = None
    review_of: str = ""
    gradients: bool = False
    trainings: tuple[Trainings, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One sheet of one year."""

    name: str  # of the file: "ex3-2025"
    course: str
    term: str
    title: str
    due: date
    file: str  # the hand-in's file name, without ending
    most_names: int
    exercises: tuple[Exercise, ...]
    willingness_points: int | None = None

    @property
    def trainings(self) -> list[Trainings]:
        """Those of all exercises."""
        return [trainings for exercise in self.exercises for trainings in exercise.trainings]


def broken(
    rules: Sequence[Rule], rows: pd.DataFrame, tried: pd.DataFrame
) -> list[tuple[Rule, str]]:
    """The rules that trainings break, each with the reason; arguments as of Rule.why_broken()."""
    return [(rule, why) for rule in rules if (why := rule.why_broken(rows, tried))]


def sheet_names() -> list[str]:
    """The names of all sheets."""
    folder = files("eml.handin") / "sheets"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_sheet(name: str) -> Sheet:
    """The sheet with this name. Raises ConfigError, with the valid names, if there is none."""
    one_of("sheet", name, sheet_names())
    content = tomllib.loads((files("eml.handin") / "sheets" / f"{name}.toml").read_text("utf-8"))
    exercises = []
    for exercise in content.pop("exercise"):
        trainings = tuple(map(_trainings, exercise.pop("trainings", ())))
        exercises.append(Exercise(trainings=trainings, **exercise))
    return Sheet(name=name, exercises=tuple(exercises), **content)


def _trainings(content: dict[str, Any]) -> Trainings:
    return Trainings(
        recipe=content["recipe"],
        figures=tuple(content["figures"]),
        rules=tuple(map(_rule, content["rules"])),
        without_gpu=content.get("without_gpu", {}),
    )


def _rule(content: dict[str, Any]) -> Rule:
    values: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in content.items()}
    return Rule(**values)
