"""Lists other differences between the curves of a comparison, and warns about its runs."""

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from eml.analysis.curves import Curve, curves, differing, ended, evaluated
from eml.config import Config

# Config fields that should be equal unless they are compared themselves.
HELD_EQUAL = ("epochs", "batch_size", "subset", "dtype", "precision")
TAGS = (
    "git_commit",
    "git_dirty",
    "python",
    "torch",
    "numpy",
    "hardware",
    "threads",
    "trainings_at_once",
)
SHORT = {"git_commit": 9}  # characters that tell values apart
CHANCE = 0.12  # accuracy with ten classes; an untrained network has 0.08 to 0.12


def differences(history: pd.DataFrame) -> list[str]:
    """A line for each difference between the runs that is not the subject of the comparison."""
    drawn = curves(history)
    # If devices are compared, other hardware is the subject, not a flaw.
    compared = differing(history)
    aside = {"hardware", "threads"} if "device_type" in compared else set()
    if len(compared) == 1:  # the subject of the comparison
        aside |= set(compared)
    names = [name for name in (*HELD_EQUAL, *TAGS) if name not in aside]
    lines = [
        _line(name.replace("_", " "), _by_value(drawn, name, SHORT.get(name)))
        for name in names
        if name in history and history[name].nunique(dropna=False) > 1
    ]
    seeds: dict[str, list[str]] = {}
    for curve in drawn:
        seeds.setdefault(", ".join(sorted(map(str, set(curve.rows["seed"])))), []).append(
            curve.label
        )
    if len(seeds) > 1:
        lines.append(_line("seeds", seeds))
    if "dataset_digest" in history:
        # A subset depends on the seed, so compare digests of equal dataset, subset and seed.
        digests = history.groupby(["dataset", "subset", "seed"])["dataset_digest"].nunique()
        if digests.max() > 1:
            lines.append(_line("data digest", _by_value(drawn, "dataset_digest", 9)))
    return lines


def _by_value(drawn: Sequence[Curve], name: str, length: int | None) -> dict[str, list[str]]:
    """By value: the labels of the curves that have it."""
    by_value: dict[str, list[str]] = {}
    for curve in drawn:
        for value in curve.rows[name].unique():
            by_value.setdefault(str(value)[:length], []).append(curve.label)
    return by_value


def _line(name: str, by_value: dict[str, list[str]]) -> str:
    labels = [set(of) for of in by_value.values()]
    if all(of == labels[0] for of in labels):  # every curve has all values: labels would not help
        return f"{name}: {', '.join(by_value)}"
    return f"{name}: " + ", ".join(f"{v} ({'; '.join(of)})" for v, of in by_value.items())


def warnings(history: pd.DataFrame) -> list[str]:
    """Warnings about runs that look like mistakes, one line each."""
    drawn = curves(history)
    lines = []
    if alone := [curve.label or "all runs" for curve in drawn if len(curve.runs) == 1]:
        lines.append(f"one seed, so no spread: {'; '.join(alone)}")
    if len(drawn) > 1 and "slurm_job" in history and history["slurm_job"].notna().any():
        lines.append("trained in jobs of Slurm, beside whatever else their nodes did: mind seconds")
    runs = dict(list(history.groupby("run_id", sort=False)))
    lines += _identical(runs)
    for run_id, rows in runs.items():
        name = rows["run_name"].iloc[0]
        accuracies = rows[f"{evaluated(rows)}_accuracy"]
        last, planned = accuracies.iloc[-1], rows["epochs"].iloc[0] + 1
        if rows["epoch"].iloc[-1] > 0 and last < CHANCE:
            lines.append(f"at chance after the last epoch, {last:.1%}: {name}, run {run_id}")
        if accuracies.count() < planned and ended(rows):
            there = f"{accuracies.count()} of {planned} epochs"
            lines.append(f"only {there} have an accuracy: {name}, run {run_id}")
    return lines


def _identical(runs: dict[str, pd.DataFrame]) -> list[str]:
    """Runs with identical losses although their parameters differ."""
    deciding = [
        field.name
        for field in fields(Config)
        # Equal losses on another device or in another framework are welcome.
        if field.name not in ("recipe", "framework", "device_type")
    ]
    seen: dict[tuple, tuple[str, tuple]] = {}
    lines = []
    for run_id, rows in runs.items():
        if len(rows) < 2:
            continue
        losses = tuple(rows["train_loss"])
        config = tuple(rows[name].iloc[0] for name in deciding)
        other, other_config = seen.setdefault(losses, (run_id, config))
        if config != other_config:
            lines.append(f"identical histories, different parameters: runs {other} and {run_id}")
    return lines
