"""Trainings side by side: what varies, and one curve for what differs in its seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

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
# What goes without saying where all runs have it.
USUAL = {"precision": "fp32"}
# In the order in which a label names them; those of the model's making come with it.
SUBJECTS = ["model", "framework", "dataset", "device_type", "optimizer", "learning_rate"]
OF_THE_MODEL = ["activation", "init"]


@dataclass(frozen=True)
class Curve:
    """Trainings that differ in nothing but their seed."""

    label: str
    runs: list[pd.DataFrame]  # the rows of each run, by epoch

    @cached_property
    def rows(self) -> pd.DataFrame:
        return pd.concat(self.runs)


def differing(history: pd.DataFrame) -> list[str]:
    """The fields of Config, but for recipe and seed, in which the runs differ."""
    names = [f.name for f in fields(Config) if f.name not in ("recipe", "seed", *SUBJECTS)]
    return [name for name in (*SUBJECTS, *names) if history[name].nunique(dropna=False) > 1]


def varying(history: pd.DataFrame) -> list[str]:
    """What a label says: the fields that differ, and the learning rate beside an optimizer."""
    names = differing(history)
    if "model" in names:
        by_model = history.groupby("model")
        names = [n for n in names if n not in OF_THE_MODEL or by_model[n].nunique().max() > 1]
    if "optimizer" in names and "learning_rate" not in names:
        names.insert(names.index("optimizer") + 1, "learning_rate")
    return names


def words(name: str, value: Any) -> str:
    """A parameter and its value as a figure says it: "learning rate 0.1", "MNIST"."""
    if name == "subset":
        return f"subset of {value} images" if value else "all images"
    if name not in WORDS:
        shown = f"{value:g}" if isinstance(value, float) else value
        return f"{name.replace('_', ' ')} {shown}"
    if value in WORDS[name]:
        return WORDS[name][value]
    # A store may hold "", " adam" or "CPU" too, which could not be told from another value.
    alone = value[:1].isalnum() and value == value.strip() and value not in WORDS[name].values()
    return value if alone else f'{name.replace("_", " ")} "{value}"'


def in_common(history: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """In words those of the parameters `names` that all runs have in common."""
    return [
        words(name, history[name].iloc[0])
        for name in names
        if history[name].nunique(dropna=False) == 1 and history[name].iloc[0] != USUAL.get(name)
    ]


def curves(history: pd.DataFrame) -> list[Curve]:
    """The runs grouped by what differs, in the order of its values."""
    by, said = differing(history), varying(history)
    groups = history.groupby(by, sort=True, dropna=False) if by else [((), history)]
    return [
        Curve(
            label=", ".join(filter(None, (words(name, rows[name].iloc[0]) for name in said))),
            runs=[run for _, run in rows.groupby("run_id", sort=False)],
        )
        for _, rows in groups
    ]


def evaluated(history: pd.DataFrame) -> str:
    """The split that the runs were evaluated on: "validation" if all were, else "test"."""
    return "validation" if (history["validation"] > 0).all() else "test"


def diverged_epoch(run: pd.DataFrame) -> int | None:
    """The epoch of a run whose loss was not finite, if there was one."""
    # Column by column: a row of many columns is slow to take out of a frame.
    accuracy = "validation_accuracy" if run["validation"].iloc[-1] > 0 else "test_accuracy"
    missing = pd.isna(run["train_loss"].iloc[-1]) or pd.isna(run[accuracy].iloc[-1])
    return int(run["epoch"].iloc[-1]) if missing else None


def unfinished(run: pd.DataFrame) -> bool:
    """Whether a run has fewer epochs than it was to have, and did not diverge."""
    return bool(run["epoch"].iloc[-1] < run["epochs"].iloc[0]) and diverged_epoch(run) is None


def ended(run: pd.DataFrame) -> bool:
    """Whether a run has all its epochs, so that it counts."""
    return diverged_epoch(run) is None and not unfinished(run)
