"""Tells which curves differ beyond chance: paired by seed, with a known rate of false verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit

from eml.analysis.curves import CHANCE, Curve, Training, mean_of_seeds

ERROR = 0.05  # largest probability of a false verdict among all pairs of a comparison
FEWEST_SEEDS = 3  # common seeds that a verdict needs
MOST_IMAGES = 10_000  # test images of MNIST, and of CIFAR-10


@dataclass(frozen=True)
class Verdict:
    """The difference between two curves. All accuracies are fractions."""

    curve: str
    other: str
    n: int  # common seeds
    difference: float  # mean of `curve` minus `other` over the common seeds
    low: float  # of the interval, corrected for the number of pairs; NaN with too few seeds
    high: float
    separable: bool  # whether the interval excludes 0

    @property
    def decided(self) -> bool:
        """Whether there are enough common seeds."""
        return self.n >= FEWEST_SEEDS

    def __str__(self) -> str:
        if not self.n:
            return f"{self.curve} minus {self.other}: no common seed"
        text = f"{self.curve} minus {self.other}: {100 * self.difference:+.2f} points"
        if not self.decided:
            return f"{text}, n = {self.n}: too few seeds to tell"
        outcome = "separable" if self.separable else "not separable"
        return f"{text} ({100 * self.low:+.2f} to {100 * self.high:+.2f}), n = {self.n}: {outcome}"


def verdicts(curves: Sequence[Curve], criterion: str) -> list[Verdict]:
    """A verdict for each pair of curves, by their scores (Training.score).

    The seeds are paired. The intervals are Student's, at the levels of Holm (1979), so that the
    probability of any false verdict is at most ERROR. Unfinished runs have no score yet.
    """
    seeds = (pd.Series({t.values["seed"]: t.score(criterion) for t in c.trainings}) for c in curves)
    scores = pd.DataFrame(dict(enumerate(seeds))).to_numpy()  # (seeds, curves); NaN: no score
    first, second = np.triu_indices(len(curves), 1)  # (pairs,)
    differences = scores[:, first] - scores[:, second]  # (seeds, pairs)
    means, n = mean_of_seeds(differences)
    enough = n >= FEWEST_SEEDS
    lows, highs = np.full((2, len(n)), np.nan)
    # Standard deviation that rounding to whole images alone gives a difference of two scores.
    # Without this least value, seeds that agree by chance on a few images would decide.
    floor = 1 / (math.sqrt(6) * evaluated_images([t for c in curves for t in c.trainings]))
    lows[enough], highs[enough] = _intervals(differences[:, enough], floor)
    # Without an interval both comparisons are False.
    separable = (lows > 0) | (highs < 0)
    columns = (column.tolist() for column in (first, second, n, means, lows, highs, separable))
    return [
        Verdict(curves[i].label, curves[j].label, *numbers)
        for i, j, *numbers in zip(*columns, strict=True)
    ]


def interval(scores: np.ndarray, images: int) -> tuple[float, float]:
    """The 95 % interval of a curve's mean score, from the scores of its seeds.

    From FEWEST_SEEDS on, Student's over the seeds. Of one seed, Wilson's (1927) for its `images`
    evaluated images, which says nothing about other seeds. Of two seeds there is none (NaN).
    """
    n = len(scores)
    if n >= FEWEST_SEEDS:
        half = stdtrit(n - 1, 0.975) * scores.std(ddof=1) / math.sqrt(n)
        return max(float(scores.mean() - half), 0.0), min(float(scores.mean() + half), 1.0)
    if n == 1:
        return wilson(float(scores[0]), images)
    return math.nan, math.nan


def wilson(accuracy: float, images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy that was measured on so many images."""
    z = ndtri(0.975)
    middle = (accuracy + z**2 / (2 * images)) / (1 + z**2 / images)
    half = math.sqrt(accuracy * (1 - accuracy) / images + z**2 / (4 * images**2))
    half *= z / (1 + z**2 / images)
    return float(middle - half), float(middle + half)


def above_chance(images: int) -> float:
    """The accuracy on so many images that guessing exceeds in 2.5 % of all cases at most."""
    return wilson(CHANCE, images)[1]


def evaluated_images(trainings: Sequence[Training]) -> int:
    """The smallest number of images that an accuracy of these trainings comes from.

    MOST_IMAGES where the store does not say it.
    """
    counts = [training.number(f"{training.split}_images") for training in trainings]
    return int(min((n for n in counts if 1 <= n <= MOST_IMAGES), default=MOST_IMAGES))


def _intervals(differences: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends of each pair's interval, at the level that Holm's procedure tests the pair at.

    differences: (seeds, pairs), with NaN where a pair lacks a seed.
    """
    means, n = mean_of_seeds(differences)
    errors = np.maximum(np.nanstd(differences, axis=0, ddof=1), floor) / np.sqrt(n)
    p = 2 * stdtr(n - 1, -np.abs(means) / errors)
    levels = np.empty(len(n))
    stopped = None
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        levels[i] = stopped or ERROR / (len(n) - rank)
        if p[i] > levels[i]:
            stopped = levels[i]  # all pairs with a larger p are undecided at the same level
    half = stdtrit(n - 1, 1 - levels / 2) * errors
    return means - half, means + half
