"""A sheet of the course, read from sheets/NAME.toml: exercises, points, figures, and rules."""

import tomllib
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

from eml.analysis.options import FigureName
from eml.config import one_of
from eml.recipes import RECIPES
from eml.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the sheet asks of the trainings of an exercise: conditions on one field of the runs."""

    says: str  # in words
    field: str  # a column of the history
    only: tuple = ()  # every run has one of these values
    include: tuple = ()  # each of these values is there
    between: tuple = ()  # lowest and highest value that at_least counts
    at_least: int = 0  # number of different values
    tried_by: str = ""  # at_least counts for each value of this field, over all that was tried
    one_for: str = ""  # each value of this field has one value
    draft: bool = False  # whether trainings that break the rule make the hand-in a draft


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of one recipe that an exercise asks for, and their figures."""

    recipe: str
    figures: tuple[FigureName, ...]
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


def sheet_names() -> list[str]:
    """The names of all sheets."""
    folder = files("eml.handin") / "sheets"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_sheet(name: str) -> Sheet:
    """The sheet with this name. Raises ConfigError, with the valid names, if there is none."""
    one_of("sheet", name, sheet_names())
    content = tomllib.loads((files("eml.handin") / "sheets" / f"{name}.toml").read_text("utf-8"))
    exercises = tuple(_exercise(exercise) for exercise in content.pop("exercise"))
    return Sheet(name=name, exercises=exercises, **content)


def _exercise(content: dict[str, Any]) -> Exercise:
    trainings = tuple(_trainings(each) for each in content.pop("trainings", ()))
    return Exercise(trainings=trainings, **content)


def _trainings(content: dict[str, Any]) -> Trainings:
    return Trainings(
        recipe=content["recipe"],
        figures=tuple(content["figures"]),
        rules=tuple(_rule(rule) for rule in content["rules"]),
        without_gpu=content.get("without_gpu", {}),
    )


def _rule(content: dict[str, Any]) -> Rule:
    values: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in content.items()}
    return Rule(**values)
