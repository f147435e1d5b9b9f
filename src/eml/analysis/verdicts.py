"""Tells which curves differ beyond chance: paired by seed, with a known rate of false verdicts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit

from eml.analysis.curves import CHANCE, Curve, Training, mean_of_seeds
from eml.analysis.labels import in_digits

ERROR = 0.05  # largest probability of a false verdict among all pairs of a comparison
FEWEST_SEEDS = 3  # common seeds that a verdict needs
MOST_IMAGES = 10_000  # test images of MNIST, and of CIFAR-10
FEW_IMAGES = 1000  # with fewer, an interval is never narrower than the images allow
SAME_SECONDS = 0.01  # a machine repeats the seconds of a training to this share, not closer
ACCURACY, SECONDS = "accuracy", "seconds per epoch"  # what is compared
SEPARABLE, NOT_SEPARABLE, NOT_JUDGED = "separable", "not separable", "not judged"
PAIRED, FISHER = "paired t", "Fisher"  # tests


@dataclass(frozen=True)
class Verdict:
    """The difference between two curves: of accuracies as fractions, or of log seconds."""

    curve: str
    other: str
    quantity: str  # ACCURACY, or SECONDS, of which exp(difference) is the ratio
    n: int  # common seeds
    difference: float  # mean of `curve` minus `other` over the common seeds
    low: float  # of the interval, corrected for the number of pairs; NaN without one
    high: float
    outcome: str  # SEPARABLE, NOT_SEPARABLE or NOT_JUDGED
    test: str  # that decided: PAIRED or FISHER; "" if not judged
    failures: int  # common seeds in which `curve` diverged
    other_failures: int

    @property
    def reason(self) -> str:
        """Why it is not judged, or decided by FISHER; else ""."""
        if not self.n:
            return "no common seed"
        if self.n < FEWEST_SEEDS and self.quantity == SECONDS:
            return f"{'one run' if self.n == 1 else 'two runs'} each; another may differ"
        if self.n < FEWEST_SEEDS:
            return "too few seeds"
        if self.failures or self.other_failures:
            first, second = (count or "none" for count in (self.failures, self.other_failures))
            return f"diverged in {first} of {self.n} seeds, the other in {second}"
        return ""

    def swapped(self) -> "Verdict":
        """The same verdict on `other` against `curve`."""
        return replace(
            self,
            curve=self.other,
            other=self.curve,
            difference=0 - self.difference,  # 0, never -0
            low=0 - self.high,
            high=0 - self.low,
            failures=self.other_failures,
            other_failures=self.failures,
        )

    def __str__(self) -> str:
        numbers = self.difference, self.low, self.high
        if self.quantity == ACCURACY:
            text, unit = f"{self.curve} minus {self.other}", "points"
            mean, low, high = (f"{100 * number:+.2f}" for number in numbers)
        else:
            text, unit = f"{self.curve} to {self.other}", "times"
            mean, low, high = (in_digits(math.exp(number)) for number in numbers)
        if not math.isnan(self.difference):
            between = f" ({low} to {high})" if self.test == PAIRED else ""
            text += f": {mean} {unit}{between}, n = {self.n}"
        by = " by Fisher's exact test" if self.test == FISHER else ""
        return f"{text}: {self.outcome}{by}{f' ({self.reason})' if self.reason else ''}"


def against(curve: str, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts on a curve against the others; curve: its label."""
    pairs = (pair for pair in verdicts if curve in (pair.curve, pair.other))
    return [pair if pair.curve == curve else pair.swapped() for pair in pairs]


def verdicts(curves: Sequence[Curve], criterion: str) -> list[Verdict]:
    """A verdict for each pair of curves, by their scores (Training.score).

    Unfinished trainings have no score yet.
    """
    scores = _table(curves, lambda training: training.score(criterion))
    diverged = _table(curves, lambda training: training.diverged is not None) > 0
    images = evaluated_images([training for curve in curves for training in curve.trainings])
    return _verdicts(curves, ACCURACY, scores, diverged, images)


def verdicts_on_seconds(curves: Sequence[Curve]) -> list[Verdict]:
    """A verdict for each pair of curves, by the mean training seconds per epoch of each run."""

    def log_seconds(training: Training) -> float:
        seconds = training.epoch_seconds
        return math.log(seconds.mean()) if seconds.sum() > 0 else math.nan

    values = _table(curves, log_seconds)
    return _verdicts(curves, SECONDS, values, np.zeros(values.shape, bool))


def _table(curves: Sequence[Curve], value: Callable[[Training], float]) -> np.ndarray:
    """The value of each training, (seeds, curves); NaN where a curve lacks a seed."""
    columns = [pd.Series({t.values["seed"]: value(t) for t in c.trainings}) for c in curves]
    return np.array(pd.DataFrame(dict(enumerate(columns))), dtype=float)


def _verdicts(
    curves: Sequence[Curve],
    quantity: str,
    values: np.ndarray,
    failed: np.ndarray,
    images: int = MOST_IMAGES,
) -> list[Verdict]:
    if len(curves) < 2:
        return []
    # Standard deviation that rounding to whole images alone gives a difference of two scores.
    # Without this least value, seeds that agree by chance on a few images would decide.
    floor = 1 / (math.sqrt(6) * images) if quantity == ACCURACY else SAME_SECONDS
    tests = pair_tests(values, failed, floor, images)
    rows = zip(*(column.tolist() for column in tests), strict=True)
    pairs = combinations([curve.label for curve in curves], 2)
    return [Verdict(*pair, quantity, *row) for pair, row in zip(pairs, rows, strict=True)]


class PairTests(NamedTuple):
    """The tests of all pairs of curves: arrays (..., pairs) of the fields of Verdict."""

    n: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    outcome: np.ndarray
    test: np.ndarray
    failures: np.ndarray
    other_failures: np.ndarray


def pair_tests(
    scores: np.ndarray, failed: np.ndarray, floor: float, images: int = MOST_IMAGES
) -> PairTests:
    """Test whether curves differ, so that the probability of any false verdict is at most ERROR.

    Pairs are in the order of combinations(curves, 2). Student's test, paired by seed, decides; for
    a pair in which a seed failed, Fisher's exact test of the counts, because equal failures
    have no spread. It judges nothing where no counts with that sum reach ERROR (Tarone, 1990).
    The levels are those of Holm (1979), over all pairs with enough seeds.

    scores: (seeds, ..., curves), NaN where a curve lacks a seed. failed: bool, the same shape.
    floor: the least standard deviation of a difference. images: that an accuracy comes from.
    """
    first, second = np.triu_indices(scores.shape[-1], 1)
    differences = scores[..., first] - scores[..., second]
    common = ~np.isnan(differences)
    means, n = mean_of_seeds(differences)
    counts = [(failed[..., index] & common).sum(axis=0) for index in (first, second)]
    enough, has_failures = n >= FEWEST_SEEDS, counts[0] + counts[1] > 0
    free = np.maximum(n - 1, 1)  # degrees of freedom
    squares = np.nansum((differences - means) ** 2, axis=0)
    errors = np.maximum(np.sqrt(squares / free), floor) / np.sqrt(np.maximum(n, 1))
    p = np.where(enough, 2 * stdtr(free, -np.abs(means) / errors), np.inf)
    judged = enough.copy()
    at = enough & has_failures
    p[at], least = np.vectorize(_fisher, otypes=[float, float])(*(c[at] for c in counts), n[at])
    judged[at] = least <= ERROR
    p[~judged] = np.inf
    rejected, levels = _holm(p, enough.sum(axis=-1, keepdims=True))
    half = stdtrit(free, 1 - levels / 2) * errors
    lows, highs = means - half, means + half
    if images < FEW_IMAGES:
        one, other = (
            mean_of_seeds(np.where(common, scores[..., index], np.nan))[0]
            for index in (first, second)
        )
        low, high = _newcombe(one, other, images, levels)
        lows, highs = np.minimum(lows, low), np.maximum(highs, high)
    without = ~judged | has_failures
    lows[without] = highs[without] = np.nan
    separable = np.where(has_failures, rejected, (lows > 0) | (highs < 0))
    outcomes = np.select([~judged, separable], [NOT_JUDGED, SEPARABLE], NOT_SEPARABLE)
    tests = np.select([~judged, has_failures], ["", FISHER], PAIRED)
    return PairTests(n, means, lows, highs, outcomes, tests, *counts)


def _holm(p: np.ndarray, tests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which p are rejected, and the level that each is tested at. (..., pairs)

    All that come after the first that is not rejected have its level. tests: (..., 1), how many.
    """
    order = np.argsort(p, axis=-1, kind="stable")
    levels = ERROR / np.maximum(tests - np.arange(p.shape[-1]), 1)
    rejected = np.logical_and.accumulate(np.take_along_axis(p, order, -1) <= levels, axis=-1)
    stop = np.minimum(rejected.sum(axis=-1, keepdims=True), p.shape[-1] - 1)
    levels = np.minimum(levels, np.take_along_axis(levels, stop, -1))
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(rejected, back, -1), np.take_along_axis(levels, back, -1)


def _newcombe(
    one: np.ndarray, other: np.ndarray, images: int, errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of one accuracy minus another that so few images allow (Newcombe, 1998)."""
    limits = np.vectorize(wilson, otypes=[float, float])
    (low, high), (other_low, other_high) = (limits(a, images, errors) for a in (one, other))
    below, above = np.hypot(one - low, other_high - other), np.hypot(high - one, other - other_low)
    return one - other - below, one - other + above


@cache
def _fisher(count: int, other: int, n: int) -> tuple[float, float]:
    """Return Fisher's p of two counts of n each, and the least p of any with the same sum."""
    from scipy.stats import fisher_exact  # its import takes longer than all else in this module

    total = count + other
    tables = ([[k, n - k], [total - k, n - total + k]] for k in (count, min(total, n)))
    p, least = (float(fisher_exact(table).pvalue) for table in tables)
    return p, least


def interval(scores: np.ndarray, images: int) -> tuple[float, float]:
    """The 95 % interval of a curve's mean score, from the scores of its seeds.

    From FEWEST_SEEDS on, Student's over the seeds, and with FEW_IMAGES at least Wilson's (1927)
    for the `images` evaluated images. Of one seed, Wilson's, which says nothing about other
    seeds. Of two seeds there is none (NaN).
    """
    n = len(scores)
    mean = float(scores.mean())
    if n == 1:
        return wilson(mean, images)
    if n < FEWEST_SEEDS:
        return math.nan, math.nan
    half = stdtrit(n - 1, 0.975) * scores.std(ddof=1) / math.sqrt(n)
    low, high = wilson(mean, images) if images < FEW_IMAGES else (mean, mean)
    return max(min(low, float(mean - half)), 0.0), min(max(high, float(mean + half)), 1.0)


def wilson(accuracy: float, images: int, error: float = ERROR) -> tuple[float, float]:
    """The interval of an accuracy that was measured on so many images. error: both sides."""
    z = ndtri(1 - error / 2)
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
