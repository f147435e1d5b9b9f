"""What trainings have in common, where they differ, and how they ended: from a history alone.

A history is the frame that tracking.load_history returns.
"""

from dataclasses import dataclass, fields

import pandas as pd

from eml.config import Config
from eml.data import SPECS

WORDS = {
    "dataset": {name: spec.title for name, spec in SPECS.items()},
    "device_type": {"cpu": "CPU", "cuda": "GPU"},
    "framework": {"numpy": "NumPy", "torch": "PyTorch"},
    "model": {"mlp": "MLP", "cnn": "CNN"},
    "optimizer": {},
}


@dataclass(frozen=True)
class Curve:
    """Trainings that differ in nothing but their seed."""

    label: str
    runs: list[pd.DataFrame]  # the rows of each run, by epoch


def varying(history: pd.DataFrame) -> list[str]:
    """The fields of Config, but for recipe and seed, in which the runs differ."""
    names = [field.name for field in fields(Config) if field.name not in ("recipe", "seed")]
    return [name for name in names if history[name].nunique() > 1]


def words(name: str, value: object) -> str:
    """A parameter and its value as a figure says it: "learning rate 0.1", "MNIST"."""
    if name in WORDS:
        return WORDS[name].get(value, value)
    if name == "subset":
        return f"subset of {value} images" if value else "all images"
    shown = f"{value:g}" if isinstance(value, float) else value
    return f"{name.replace('_', ' ')} {shown}"


def in_common(history: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    """In words those of the parameters `names` that all runs have in common."""
    return [words(name, history[name].iloc[0]) for name in names if history[name].nunique() == 1]


def curves(history: pd.DataFrame) -> list[Curve]:
    """The runs grouped by what varies, labelled with it, in the order of the history."""
    by = varying(history)
    groups = [rows for _, rows in history.groupby(by, sort=False)] if by else [history]
    return [
        Curve(
            label=", ".join(words(name, rows[name].iloc[0]) for name in by),
            runs=[run for _, run in rows.groupby("run_id", sort=False)],
        )
        for rows in groups
    ]


def diverged_epoch(run: pd.DataFrame) -> int | None:
    """The epoch of a run whose loss was not finite, if there was one."""
    last = run.iloc[-1]
    return int(last["epoch"]) if pd.isna(last["test_loss"]) else None


def summary(history: pd.DataFrame) -> pd.DataFrame:
    """A row for each run: what varies, final and best test accuracy, best epoch, time, diverged.

    A diverged run has no final accuracy; its best is that of the epochs before.
    """
    names = varying(history)
    if history["seed"].nunique() > 1:
        names.append("seed")
    rows = []
    for run_id, run in history.groupby("run_id", sort=False):
        best = run.loc[run["test_accuracy"].idxmax()]
        diverged = diverged_epoch(run)
        rows.append(
            {name: run[name].iloc[0] for name in names}
            | {
                "final_test_accuracy": run["test_accuracy"].iloc[-1],
                "best_test_accuracy": best["test_accuracy"],
                "best_epoch": best["epoch"],
                "train_seconds": run["train_seconds"].iloc[-1],
                "diverged": "" if diverged is None else f"epoch {diverged}",
                "run_id": run_id,
            }
        )
    return pd.DataFrame(rows)
