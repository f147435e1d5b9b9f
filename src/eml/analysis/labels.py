"""What varies between trainings, and how a label says it."""

from collections.abc import Sequence
from dataclasses import fields
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
# Not mentioned if all runs have this value.
USUAL = {"precision": "fp32"}
# In the order of a label. OF_THE_MODEL depend on the model.
SUBJECTS = ["model", "framework", "dataset", "device_type", "optimizer", "learning_rate"]
OF_THE_MODEL = ["activation", "init"]


def differing(history: pd.DataFrame) -> list[str]:
    """The fields of Config, except recipe and seed, in which the runs differ."""
    history = history.drop_duplicates("run_id")  # all rows of a run have its parameters
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
