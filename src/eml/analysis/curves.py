"""A training that was read back from the store, and the curve of trainings of several seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

CHANCE = 0.1  # accuracy of guessing one of ten classes


@dataclass(frozen=True)
class Training:
    """A training, read back from the store."""

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
    def accuracies(self) -> np.ndarray:
        """On `split`, as fractions."""
        return self.points[f"{self.split}_accuracy"]

    @property
    def last_epoch(self) -> int:
        return int(self.points["epoch"][-1])

    @cached_property
    def scored(self) -> np.ndarray:
        """The indices of the epochs that have an accuracy."""
        return np.flatnonzero(~np.isnan(self.accuracies))

    @property
    def last_scored(self) -> tuple[int, float]:
        """The last epoch that has an accuracy, and the accuracy; (-1, NaN) if there is none."""
        at = self.scored[-1:]
        return max(self.points["epoch"][at], default=-1), max(self.accuracies[at], default=math.nan)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the best accuracy; there must be an accuracy."""
        return int(self.points["epoch"][np.nanargmax(self.accuracies)])

    @cached_property
    def epoch_seconds(self) -> np.ndarray:
        """The training seconds of each epoch, without epoch 0.

        Epochs whose clock was not logged have their mean.
        """
        known = ~np.isnan(self.points["train_seconds"])
        epochs = np.diff(self.points["epoch"][known])
        return np.repeat(np.diff(self.points["train_seconds"][known]) / epochs, epochs)

    @cached_property
    def diverged(self) -> int | None:
        """The epoch in which a score was not finite; None if there is none."""
        if not math.isnan(epoch := self.number("diverged")):  # as the store tells
            return int(epoch) if epoch >= 0 else None
        # Tables of older hand-ins do not tell.
        last_values = self.points["train_loss"][-1], self.accuracies[-1]
        return self.last_epoch if np.isnan(last_values).any() else None

    @property
    def unfinished(self) -> bool:
        """Whether it has fewer epochs than planned and did not diverge."""
        return self.last_epoch < self.values["epochs"] and self.diverged is None

    @property
    def complete(self) -> bool:
        """Whether it has all its epochs without divergence, and an accuracy, so that it counts."""
        return self.diverged is None and not self.unfinished and len(self.scored) > 0

    def score(self, criterion: str) -> float:
        """The accuracy it is judged by: a key of CRITERIA (labels.py).

        CHANCE if it has diverged, because its model is of no more use. Else NaN if not complete.
        """
        if not self.complete:
            return math.nan if self.diverged is None else CHANCE
        accuracies = self.accuracies[self.scored]
        if criterion == "best":
            return float(np.max(accuracies))
        last_half = accuracies[-max(1, len(accuracies) // 2) :]
        return float(np.median(last_half) if criterion == "median" else accuracies[-1])

    def number(self, name: str) -> float:
        """A parameter or tag as a number; NaN where it is absent or no number."""
        try:
            return float(self.values.get(name, "nan"))
        except (TypeError, ValueError):
            return math.nan


class Seconds(NamedTuple):
    """The training seconds of the epochs of a curve; all NaN without an epoch."""

    mean: float
    lowest: float  # 10th percentile, so that one odd epoch decides nothing
    highest: float  # 90th percentile

    def overlaps(self, other: "Seconds") -> bool:
        """Whether the two are too alike to call one of the curves faster."""
        return self.lowest <= other.highest and other.lowest <= self.highest


@dataclass(frozen=True, eq=False)
class Band:
    """A metric of a curve over x: mean and range of the seeds. All arrays have shape (epochs,)."""

    epochs: np.ndarray
    x: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    def __len__(self) -> int:
        return len(self.epochs)


@dataclass(frozen=True)
class Curve:
    """The trainings that differ in their seed alone."""

    label: str
    trainings: Sequence[Training]

    @property
    def name(self) -> str:
        """The label; where nothing differs, the name of the run, or "all runs"."""
        named = str(self.values.get("run_name", self.trainings[0].run_id))
        only = named if len(self.trainings) == 1 else "all runs"
        return self.label or only

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

    def scores(self, criterion: str) -> np.ndarray:
        """The scores of the seeds that have ended; NaN alone if none of them is complete."""
        if not any(training.complete for training in self.trainings):
            return np.array([math.nan])
        scores = [training.score(criterion) for training in self.trainings]
        return np.array([score for score in scores if not math.isnan(score)])

    @cached_property
    def seconds(self) -> Seconds:
        """Of all epochs of all trainings."""
        seconds = np.concatenate([training.epoch_seconds for training in self.trainings])
        if not len(seconds):
            return Seconds(math.nan, math.nan, math.nan)
        low = np.quantile(seconds, 0.1, method="lower")
        high = np.quantile(seconds, 0.9, method="higher")
        return Seconds(float(seconds.mean()), float(low), float(high))

    def band(self, x: str, metric: str) -> Band:
        """The seeds' mean and range of a metric over x: "epoch" or a clock.

        Every seed counts as far as its run goes. The accuracy of a diverged run is CHANCE for as
        long as another seed goes on, so the mean is that of the summary.
        """
        seeds = self.trainings
        epochs = np.unique(np.concatenate([seed.points["epoch"] for seed in seeds]))
        values, xs = np.full((2, len(seeds), len(epochs)), np.nan)  # (seeds, epochs)
        for row, seed in enumerate(seeds):
            places = np.searchsorted(epochs, seed.points["epoch"])
            values[row, places], xs[row, places] = seed.points[metric], seed.points[x]
        reached = np.flatnonzero(~np.isnan(values).all(axis=0))
        for row, seed in enumerate(seeds):
            if metric.endswith("accuracy") and seed.diverged is not None:
                values[row, epochs >= seed.diverged] = CHANCE
        # To the last epoch that any seed has reached without diverging.
        end = reached[-1] + 1 if len(reached) else 0
        values, xs, epochs = values[:, :end], xs[:, :end], epochs[:end]
        means, _ = mean_of_seeds(values)
        at = epochs if x == "epoch" else mean_of_seeds(xs)[0]
        lowest, highest = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
        known = ~(np.isnan(at) | np.isnan(means))
        return Band(*(column[known] for column in (epochs, at, means, lowest, highest)))


def mean_of_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the first axis without NaN, and of how many; NaN where there are none."""
    n = (~np.isnan(values)).sum(axis=0)
    return np.nansum(values, axis=0) / np.where(n, n, np.nan), n
