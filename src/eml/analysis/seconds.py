"""How long epochs take, and whether two curves differ in it."""

import math
from typing import NamedTuple

import numpy as np

from eml.analysis.curves import Curve, Training


class Seconds(NamedTuple):
    """The training seconds of the epochs of a curve; all NaN without an epoch."""

    mean: float
    lowest: float  # 10th percentile, so that one odd epoch decides nothing
    highest: float  # 90th percentile

    def overlaps(self, other: "Seconds") -> bool:
        """Whether the two are too alike to call one of the curves faster."""
        return self.lowest <= other.highest and other.lowest <= self.highest


def seconds_of_epochs(training: Training) -> np.ndarray:
    """The training seconds of each epoch, without epoch 0."""
    seconds = np.diff(training.points["train_seconds"])
    return seconds[~np.isnan(seconds)]


def epoch_seconds(curve: Curve) -> Seconds:
    """Over all epochs of all trainings of a curve."""
    seconds = np.concatenate([seconds_of_epochs(each) for each in curve.trainings])
    if not len(seconds):
        return Seconds(math.nan, math.nan, math.nan)
    return Seconds(
        float(seconds.mean()),
        float(np.quantile(seconds, 0.1, method="lower")),
        float(np.quantile(seconds, 0.9, method="higher")),
    )
