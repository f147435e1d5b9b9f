"""The trainings of a history, and the curves that they form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from eml.analysis.labels import differing, varying, words

CHANCE = 0.1  # accuracy of guessing one of ten classes


@dataclass(frozen=True)
class Training:
    """A training of a history."""

    values: Mapping[str, Any]  # its parameters and tags, by the columns of the history
    points: Mapping[str, np.ndarray]  # "epoch" and the metrics: a value for each epoch, ascending

    @property
    def run_id(self) -> str:
        return str(self.values["run_id"])

    @property
    def split(self) -> str:
        """The split that it was evaluated on: "validation" or "test"."""
        return "validation" if self.values["validation"] > 0 else "test"

    @property
    def losses(self) -> np.ndarray:
        return self.points["train_loss"]

    @property
    def accuracies(self) -> np.ndarray:
        """On `split`, as fractions."""
        return self.points[f"{self.split}_accuracy"]

    @property
    def last_epoch(self) -> int:
        return int(self.points["epoch"][-1])

    @cached_property
    def diverged(self) -> int | None:
        """The epoch in which the loss was not finite; None if there is none."""
        missing = np.isnan(self.losses[-1]) or np.isnan(self.accuracies[-1])
        return self.last_epoch if missing else None

    @property
    def unfinished(self) -> bool:
        """Whether it has fewer epochs than planned and did not diverge."""
        return self.last_epoch < self.values["epochs"] and self.diverged is None

    @property
    def complete(self) -> bool:
        """Whether it has all its epochs without divergence, so that it counts."""
        return self.diverged is None and not self.unfinished

    def score(self, criterion: str) -> float:
        """The accuracy it is judged by: of its "last" epoch, or the "best" of any epoch.

        CHANCE if it has diverged, because its model is of no more use. NaN if it is unfinished.
        """
        if self.unfinished:
            return float("nan")
        if self.diverged is not None:
            return CHANCE
        return float(self.accuracies[judged_at(self.accuracies, criterion)])


@dataclass(frozen=True)
class Curve:
    """The trainings that differ in their seed alone."""

    label: str
    trainings: Sequence[Training]

    @property
    def values(self) -> Mapping[str, Any]:
        """Parameters of the first training; all trainings share them, except the seed."""
        return self.trainings[0].values

    @property
    def split(self) -> str:
        """The split that it was evaluated on: "validation" or "test"."""
        return self.trainings[0].split

    @property
    def diverged(self) -> list[int]:
        """The epochs in which trainings diverged."""
        return [t.diverged for t in self.trainings if t.diverged is not None]


def trainings_of(history: pd.DataFrame) -> list[Training]:
    """The trainings of a history, in its order."""
    numbers = {str(n): column.to_numpy() for n, column in history.select_dtypes("number").items()}
    rows = history.groupby("run_id", sort=False).indices
    # Four times as fast as DataFrame.to_dict("records"); a report comes here up to 15 times.
    columns = {str(n): column.tolist() for n, column in history.drop_duplicates("run_id").items()}
    each = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [
        Training(values, {n: column[rows[values["run_id"]]] for n, column in numbers.items()})
        for values in each
    ]


def curves(history: pd.DataFrame) -> list[Curve]:
    """The trainings grouped by the fields that differ, in the order of their values."""
    by, said = differing(history), varying(history)
    firsts = history.drop_duplicates("run_id")
    places = firsts.groupby(by, dropna=False).ngroup() if by else [0] * len(firsts)
    groups: dict[int, list[Training]] = {}
    for place, training in zip(places, trainings_of(history), strict=True):
        groups.setdefault(place, []).append(training)
    return [
        Curve(", ".join(filter(None, (words(n, seeds[0].values[n]) for n in said))), seeds)
        for _, seeds in sorted(groups.items())
    ]


def number_in(values: Mapping[str, Any], name: str) -> float:
    """A value as a number; NaN where it is absent or no number."""
    try:
        return float(values.get(name, "nan"))
    except (TypeError, ValueError):
        return float("nan")


def judged_at(accuracies: np.ndarray, criterion: str) -> int:
    """The place of the accuracy that a training is judged by: the "last", or the "best"."""
    return len(accuracies) - 1 if criterion == "last" else int(np.nanargmax(accuracies))


def over_seeds(curve: Curve, x: str, metric: str) -> pd.DataFrame:
    """By epoch: x, mean, lowest, highest, and n, the number of seeds that these come from.

    Every seed counts as far as its run goes. The accuracy of a diverged run is CHANCE for as long
    as another seed goes on, so the mean is that of the summary.
    """
    seeds = curve.trainings
    epochs = np.unique(np.concatenate([seed.points["epoch"] for seed in seeds]))
    values, xs = np.full((2, len(seeds), len(epochs)), np.nan)  # each (seeds, epochs)
    for row, seed in enumerate(seeds):
        there = np.searchsorted(epochs, seed.points["epoch"])
        values[row, there], xs[row, there] = seed.points[metric], seed.points[x]
    reached = np.flatnonzero(~np.isnan(values).all(axis=0))
    for row, seed in enumerate(seeds):
        if metric.endswith("accuracy") and seed.diverged is not None:
            values[row, epochs >= seed.diverged] = CHANCE
    # To the last epoch that any seed has reached without diverging.
    end = reached[-1] + 1 if len(reached) else 0
    values, epochs = values[:, :end], epochs[:end]
    means, n = mean_of_seeds(values)
    found = {
        "x": epochs if x == "epoch" else mean_of_seeds(xs[:, :end])[0],
        "mean": means,
        "lowest": np.fmin.reduce(values, axis=0),
        "highest": np.fmax.reduce(values, axis=0),
        "n": n,
    }
    there = ~(np.isnan(found["x"]) | np.isnan(means))
    index = pd.Index(epochs[there], name="epoch")
    return pd.DataFrame({name: column[there] for name, column in found.items()}, index=index)


def mean_of_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the first axis without NaN, and of how many; NaN where there are none."""
    n = (~np.isnan(values)).sum(axis=0)
    return np.nansum(values, axis=0) / np.where(n, n, np.nan), n


def evaluated(history: pd.DataFrame) -> str:
    """The split that the runs were evaluated on: "validation" if all were, else "test"."""
    return "validation" if (history["validation"] > 0).all() else "test"
