"""Groups trainings into curves, and names what varies between them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from eml.config import Config
from eml.data.specs import SPECS

WORDS = {
    "dataset": {name: spec.title for name, spec in SPECS.items()},
    "device_type": {"cpu": "CPU", "cuda": "GPU"},
    "framework": {"numpy": "NumPy", "torch": "PyTorch"},
    "model": {"mlp": "MLP", "cnn": "CNN"},
    "optimizer": {},
    "precision": {"fp32": "FP32", "tf32": "TF32", "bf16": "BF16"},
}
# Not mentioned if all runs have this value.
USUAL = {"precision": "fp32"}
CHANCE = 0.1  # accuracy of guessing one of ten classes
# In the order of a label. OF_THE_MODEL depend on the model.
SUBJECTS = ["model", "framework", "dataset", "device_type", "optimizer", "learning_rate"]
OF_THE_MODEL = ["activation", "init"]


@dataclass(frozen=True)
class Curve:
    """The trainings that differ in their seed alone."""

    label: str
    runs: list[pd.DataFrame]  # the rows of each run, by epoch

    @cached_property
    def rows(self) -> pd.DataFrame:
        return pd.concat(self.runs)


def differing(history: pd.DataFrame) -> list[str]:
    """The fields of Config, except recipe and seed, in which the runs differ."""
    names = [f.name for f in fields(Config) if f.name not in ("recipe", "seed", *SUBJECTS)]
    return [name for name in (*SUBJECTS, *names) if history[name].nunique(dropna=False) > 1]


def varying(history: pd.DataFrame) -> list[str]:
    """The fields in a label: those that differ, and the learning rate beside an optimizer."""
    names = differing(history)
    if "model" in names:
        by_model = history.groupby("model")
        names = [n for n in names if n not in OF_THE_MODEL or by_model[n].nunique().max() > 1]
    if "optimizer" in names and "learning_rate" not in names:
        names.insert(names.index("optimizer") + 1, "learning_rate")
    return names


def words(name: str, value: Any) -> str:
    """A parameter and its value in the words of a figure: "learning rate 0.1", "MNIST"."""
    if name == "subset":
        return f"subset of {value} images" if value else "all images"
    if name not in WORDS:
        shown = f"{value:g}" if isinstance(value, float) else value
        return f"{name.replace('_', ' ')} {shown}"
    if value in WORDS[name]:
        return WORDS[name][value]
    # A store may also hold "", " adam" or "CPU", which must look different from other values.
    alone = value[:1].isalnum() and value == value.strip() and value not in WORDS[name].values()
    return value if alone else f'{name.replace("_", " ")} "{value}"'


def in_common(history: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The parameters among `names` that all runs have in common, in words."""
    return [
        words(name, history[name].iloc[0])
        for name in names
        if history[name].nunique(dropna=False) == 1 and history[name].iloc[0] != USUAL.get(name)
    ]


def curves(history: pd.DataFrame) -> list[Curve]:
    """The runs grouped by the fields that differ, in the order of their values."""
    by, said = differing(history), varying(history)
    groups = history.groupby(by, sort=True, dropna=False) if by else [((), history)]
    return [
        Curve(
            label=", ".join(filter(None, (words(name, rows[name].iloc[0]) for name in said))),
            runs=[run for _, run in rows.groupby("run_id", sort=False)],
        )
        for _, rows in groups
    ]


def score(run: pd.DataFrame, criterion: str) -> float:
    """The accuracy that a run is judged by: of its "last" epoch, or the "best" of any epoch.

    A diverged run scores as CHANCE, because its model is of no more use. NaN if it is unfinished.
    """
    if unfinished(run):
        return float("nan")
    if diverged_epoch(run) is not None:
        return CHANCE
    accuracies = run[f"{evaluated(run)}_accuracy"]
    return float(accuracies[judged_at(accuracies, criterion)])


def judged_at(accuracies: pd.Series, criterion: str) -> int:
    """The label of the accuracy that a training is judged by: the "last", or the "best"."""
    return accuracies.index[-1] if criterion == "last" else accuracies.idxmax()


def over_seeds(curve: Curve, x: str, metric: str) -> pd.DataFrame:
    """By epoch: x, mean, lowest, highest, and n, the number of seeds that these come from.

    Every seed counts as far as its run goes. The accuracy of a diverged run is CHANCE for as long
    as another seed goes on, so the mean is that of the summary.
    """
    epochs = np.unique(np.concatenate([run["epoch"].to_numpy() for run in curve.runs]))
    values, xs = np.full((2, len(curve.runs), len(epochs)), np.nan)  # each (seeds, epochs)
    for row, run in enumerate(curve.runs):
        there = np.searchsorted(epochs, run["epoch"].to_numpy())
        values[row, there], xs[row, there] = run[metric], run[x]
    reached = np.flatnonzero(~np.isnan(values).all(axis=0))
    for row, run in enumerate(curve.runs):
        if metric.endswith("accuracy") and (epoch := diverged_epoch(run)) is not None:
            values[row, epochs >= epoch] = CHANCE
    # To the last epoch that any seed has reached without diverging.
    end = reached[-1] + 1 if len(reached) else 0
    values = values[:, :end]
    table = pd.DataFrame(values.T, index=pd.Index(epochs[:end], name="epoch"))
    found = pd.DataFrame(
        {
            "x": table.index if x == "epoch" else pd.DataFrame(xs.T[:end]).mean(axis=1).to_numpy(),
            "mean": table.mean(axis=1),
            "lowest": table.min(axis=1),
            "highest": table.max(axis=1),
            "n": table.count(axis=1),
        },
        index=table.index,
    )
    return found.dropna(subset=["x", "mean"])


def evaluated(history: pd.DataFrame) -> str:
    """The split that the runs were evaluated on: "validation" if all were, else "test"."""
    return "validation" if (history["validation"] > 0).all() else "test"


def diverged_epoch(run: pd.DataFrame) -> int | None:
    """The epoch in which a run's loss was not finite; None if there is none."""
    # Column by column, because taking a row out of a frame is slow.
    accuracy = "validation_accuracy" if run["validation"].iloc[-1] > 0 else "test_accuracy"
    missing = pd.isna(run["train_loss"].iloc[-1]) or pd.isna(run[accuracy].iloc[-1])
    return int(run["epoch"].iloc[-1]) if missing else None


def unfinished(run: pd.DataFrame) -> bool:
    """Whether a run has fewer epochs than planned and did not diverge."""
    return bool(run["epoch"].iloc[-1] < run["epochs"].iloc[0]) and diverged_epoch(run) is None


def ended(run: pd.DataFrame) -> bool:
    """Whether a run has all its epochs without divergence, so that it counts."""
    return diverged_epoch(run) is None and not unfinished(run)
