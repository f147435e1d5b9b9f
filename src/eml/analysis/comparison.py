"""Comparison: the trainings of a history, grouped once into curves, with the verdicts on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd

from eml.analysis.curves import Curve, Training
from eml.analysis.labels import CRITERIA, LAST, acts, words
from eml.analysis.verdicts import Verdict, verdicts, verdicts_on_seconds
from eml.config import Config

# In the order of a label. OF_THE_MODEL depend on the model.
SUBJECTS = ["model", "framework", "dataset", "device_type", "optimizer", "learning_rate"]
OF_THE_MODEL = ["activation", "init"]
UNSAID = ("precision", "momentum", "validation", "code_sha256")  # where they have their defaults


@dataclass(frozen=True, eq=False)
class Comparison:
    """The trainings of a history, and what they are compared for."""

    history: pd.DataFrame  # as of tracking.history.load_history
    criterion: str = LAST  # Training.score
    exercise: str = ""  # "3.4 Optimizers", say
    varies: str = ""  # the field of Config that the exercise compares
    rates: tuple[float, float] = (0.0, float("inf"))  # learning rates that advice may name

    @cached_property
    def trainings(self) -> list[Training]:
        """In the order of the history."""
        columns = self.history.select_dtypes("number").items()
        numbers = {str(name): column.to_numpy() for name, column in columns}
        rows = self.history.groupby("run_id", sort=False).indices
        return [
            Training(first, {n: column[rows[first["run_id"]]] for n, column in numbers.items()})
            for first in self.history.drop_duplicates("run_id").to_dict("records")
        ]

    @cached_property
    def curves(self) -> list[Curve]:
        """The trainings grouped by the fields that differ, in the order of their values."""
        groups: dict[tuple[object, ...], list[Training]] = {}
        for training in self.trainings:
            key = tuple(training.values[name] for name in self.differing)
            groups.setdefault(key, []).append(training)
        return [
            Curve(", ".join(words(n, v[n]) for n in self.named if acts(n, v)), seeds)
            for _, seeds in sorted(groups.items())
            for v in [seeds[0].values]
        ]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One for each pair of curves, by the criterion."""
        return verdicts(self.curves, self.criterion)

    @cached_property
    def verdicts_on_seconds(self) -> list[Verdict]:
        """One for each pair of curves."""
        return verdicts_on_seconds(self.curves)

    @property
    def split(self) -> str:
        """The split of the accuracies: "validation" if all trainings have it, else "test"."""
        all_held_out = all(training.split == "validation" for training in self.trainings)
        return "validation" if all_held_out else "test"

    @property
    def score_name(self) -> str:
        """The accuracy that trainings are judged by: "final test accuracy"."""
        return f"{CRITERIA[self.criterion]} {self.split} accuracy"

    @property
    def alone(self) -> str:
        """A sentence if all trainings have one value of the field that is to vary; else ""."""
        return f"{self._only} alone: nothing to compare it with" if self._only else ""

    @property
    def subject(self) -> str:
        """The exercise: "3.2 CPU and GPU"; "3.2 CPU" where the trainings are on the CPU alone."""
        number, _, _ = self.exercise.partition(" ")
        return f"{number} {self._only}" if self.exercise and self._only else self.exercise

    @property
    def _only(self) -> str:
        return "".join(self.in_common([self.varies] if self.varies else []))

    @cached_property
    def differing(self) -> list[str]:
        """The fields of Config, except recipe and seed, in which the trainings differ."""
        names = [f.name for f in fields(Config) if f.name not in ("recipe", "seed", *SUBJECTS)]
        return [name for name in (*SUBJECTS, *names) if distinct(self.trainings, name) > 1]

    @cached_property
    def named(self) -> list[str]:
        """The fields in a label: those that differ, and the learning rate beside an optimizer."""
        names = self.differing.copy()
        for name in OF_THE_MODEL if "model" in names else ():
            others = [other for other in names if other != name]
            if distinct(self.trainings, *others) == distinct(self.trainings, *names):
                names = others
        if "optimizer" in names and "learning_rate" not in names:
            names.insert(names.index("optimizer") + 1, "learning_rate")
        return names

    def in_common(self, names: Sequence[str]) -> list[str]:
        """The parameters among `names` that all trainings have in common, in words."""
        first = self.trainings[0].values
        return [
            words(name, first[name])
            for name in names
            if distinct(self.trainings, name) == 1
            and (name not in UNSAID or first[name] != getattr(Config, name))
        ]

    def has(self, metric: str) -> bool:
        """Whether any training has a value of this metric."""
        return any(not np.isnan(training.points[metric]).all() for training in self.trainings)


def distinct(trainings: Iterable[Training], *names: str) -> int:
    """The number of different combinations of these parameters or tags."""
    return len({tuple(str(t.values.get(name)) for name in names) for t in trainings})
