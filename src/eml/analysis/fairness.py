"""Lists other differences between the curves of a comparison, and warns about its runs."""

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations

import pandas as pd

from eml.analysis.curves import Curve, curves, differing, ended, evaluated
from eml.analysis.seconds import seconds_of_epochs
from eml.analysis.verdicts import above_chance, evaluated_images
from eml.config import Config

# What differs for good reason where the key is compared.
GOES_WITH = {
    "model": ("activation", "init", "learning_rate"),
    "dataset": ("scaling_mean", "scaling_std", "train_images", "test_images"),
    "device_type": ("hardware", "threads"),
    "optimizer": ("learning_rate", "momentum"),
    "subset": ("train_images", "test_images"),
}
LOGGED = (
    "scaling_mean",
    "scaling_std",
    "test_images",
    "git_commit",
    "git_dirty",
    "python",
    "torch",
    "numpy",
    "hardware",
    "threads",
    "trainings_at_once",
    "system_metrics",
)
# What decides the losses of a training, wherever and with whatever framework it is computed.
DECIDING = [
    field.name
    for field in fields(Config)
    if field.name not in ("recipe", "framework", "device_type")
]
SHORT = {"git_commit": 9}  # characters that tell values apart
LARGEST_SWING = 0.25  # standard deviation of the seconds of an epoch, as a share of their mean
SHORTEST = 0.1  # seconds; shorter epochs always swing
NAMED = 3  # runs that a warning about disturbances names
LEAST_CPU = 0.5  # share of threads times seconds that an undisturbed training computes
# Relative difference of a train loss that rounding alone can cause, by epoch. Another order of the
# data changes that of the MLP on MNIST by 1 % in epoch 1; rounding changes the CNN's by 0.1 %.
ROUNDING = {0: 1e-4, 1: 5e-3}


def differences(history: pd.DataFrame) -> list[str]:
    """A line for each difference between the runs that is not the subject of the comparison."""
    drawn = curves(history)
    compared = differing(history)
    subject = compared[:1]
    aside = {*subject, *(other for name in subject for other in GOES_WITH.get(name, ()))}
    names = [name for name in (*compared, *LOGGED) if name not in aside]
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
        which = "; ".join(alone) if len(alone) < len(drawn) else "all runs"
        lines.append(f"one seed, so no spread: {which}")
    if len(drawn) > 1 and "slurm_job" in history and history["slurm_job"].notna().any():
        lines.append("trained in jobs of Slurm, beside whatever else their nodes did: mind seconds")
    runs = dict(list(history.groupby("run_id", sort=False)))
    lines += _identical(runs)
    lines += _unlike(history)
    disturbed: dict[str, list[str]] = {}
    for run_id, rows in runs.items():
        name = f"{rows['run_name'].iloc[0]}, run {run_id}"
        lines += [f"{line}: {name}" for line in _scores(rows)]
        for sign, numbers in _disturbances(rows).items():
            disturbed.setdefault(sign, []).append(f"{numbers} in {name}")
    for sign, found in disturbed.items():
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        lines.append(f"{sign}: {'; '.join(found[:NAMED])}{more}")
    return lines


def _scores(rows: pd.DataFrame) -> list[str]:
    """Warnings about the accuracies of a run."""
    lines = []
    accuracies = rows[f"{evaluated(rows)}_accuracy"]
    last, planned = accuracies.iloc[-1], rows["epochs"].iloc[0] + 1
    if rows["epoch"].iloc[-1] > 0 and last <= above_chance(evaluated_images(rows)):
        lines.append(f"at chance after the last epoch, {last:.1%}")
    if accuracies.count() < planned and ended(rows):
        lines.append(f"only {accuracies.count()} of {planned} epochs have an accuracy")
    return lines


def _disturbances(rows: pd.DataFrame) -> dict[str, str]:
    """Signs that the machine did other things during a run, with the numbers that show it."""
    found = {}
    seconds = seconds_of_epochs(rows)
    mean = seconds.mean()
    if mean >= SHORTEST and (seconds / mean).std() > LARGEST_SWING:
        found["the machine was probably disturbed"] = (
            f"{seconds.min():.3g} to {seconds.max():.3g} s an epoch"
        )
    if rows["device_type"].iloc[0] == "cpu" and {"train_cpu_seconds", "threads"} <= set(rows):
        computed, trained = rows["train_cpu_seconds"].iloc[-1], rows["train_seconds"].iloc[-1]
        threads = pd.to_numeric(rows["threads"], errors="coerce").iloc[-1]
        share = computed / (threads * trained) if trained and threads else math.nan
        if share < LEAST_CPU:
            found["something else had the processor"] = (
                f"{computed:.3g} CPU seconds in {trained:.3g} s with {threads:.0f} threads"
            )
    return found


def _unlike(history: pd.DataFrame) -> list[str]:
    """Runs of one Config on two devices, or in two frameworks, that began differently.

    Such runs see the same data in the same order from the same weights.
    """
    lines = []
    for _, rows in history.groupby(DECIDING, dropna=False):
        runs = [run for _, run in rows.groupby("run_id", sort=False)]
        for one, other in combinations(runs, 2):
            for epoch, largest in ROUNDING.items():
                a, b = (run.set_index("epoch")["train_loss"].get(epoch) for run in (one, other))
                if a is None or b is None or not abs(a - b) > largest * max(abs(a), abs(b)):
                    continue
                lines.append(
                    f"one Config, but the train losses after epoch {epoch} differ by more than "
                    f"rounding, {a:.4g} and {b:.4g}: runs {one['run_id'].iloc[0]} and "
                    f"{other['run_id'].iloc[0]}"
                )
                break
    return lines


def _identical(runs: dict[str, pd.DataFrame]) -> list[str]:
    """Runs with identical losses although their parameters differ."""
    seen: dict[tuple, tuple[str, tuple]] = {}
    lines = []
    for run_id, rows in runs.items():
        if len(rows) < 2:
            continue
        losses = tuple(rows["train_loss"])
        config = tuple(rows[name].iloc[0] for name in DECIDING)
        other, other_config = seen.setdefault(losses, (run_id, config))
        if config != other_config:
            lines.append(f"identical histories, different parameters: runs {other} and {run_id}")
    return lines
