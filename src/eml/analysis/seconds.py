"""How long epochs take, and whether two curves differ in it."""

import math
from typing import NamedTuple

import pandas as pd

from eml.analysis.curves import Curve


class Seconds(NamedTuple):
    """The training seconds of the epochs of a curve; all NaN without an epoch."""

    mean: float
    lowest: float  # but for a tenth of the epochs, so that one odd epoch decides nothing
    highest: float  # the same

    def overlaps(self, other: "Seconds") -> bool:
        """Whether the two are too alike to call one of the curves faster."""
        return self.lowest <= other.highest and other.lowest <= self.highest


def seconds_of_epochs(run: pd.DataFrame) -> pd.Series:
    """The training seconds of each epoch of a run, without epoch 0."""
    return run["train_seconds"].diff().iloc[1:].dropna()


def epoch_seconds(curve: Curve) -> Seconds:
    """Over all epochs of all runs of a curve."""
    seconds = pd.concat([seconds_of_epochs(run) for run in curve.runs])
    if seconds.empty:
        return Seconds(math.nan, math.nan, math.nan)
    return Seconds(
        float(seconds.mean()),
        float(seconds.quantile(0.1, interpolation="lower")),
        float(seconds.quantile(0.9, interpolation="higher")),
    )
