"""How long epochs take, and whether two curves differ in it."""

import pandas as pd

from eml.analysis.curves import Curve


def epoch_seconds(curve: Curve) -> pd.Series:
    """The training seconds of every epoch of every run of a curve."""
    return pd.concat([seconds_of_epochs(run) for run in curve.runs])


def seconds_of_epochs(run: pd.DataFrame) -> pd.Series:
    """The training seconds of each epoch of a run, without epoch 0."""
    return run["train_seconds"].diff().iloc[1:].dropna()


def lowest(durations: pd.Series) -> float:
    """The lowest duration, but for a tenth of them, so that one odd epoch decides nothing."""
    return float(durations.quantile(0.1, interpolation="lower"))


def highest(durations: pd.Series) -> float:
    return float(durations.quantile(0.9, interpolation="higher"))


def overlap(some: pd.Series, others: pd.Series) -> bool:
    """Whether durations are too alike to call one of the curves faster."""
    if some.empty or others.empty:
        return False
    return lowest(some) <= highest(others) and lowest(others) <= highest(some)
