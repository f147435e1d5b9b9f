"""Lists other differences between the curves of a comparison, and warns about its runs."""

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations

import numpy as np
import pandas as pd

from eml.analysis.curves import Curve, Training, curves, number_in, trainings_of
from eml.analysis.labels import differing
from eml.analysis.seconds import seconds_of_epochs
from eml.analysis.verdicts import above_chance, evaluated_images
from eml.config import Config
from eml.threads import DISTURBED

# Fields that change with the compared field.
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
OF_SECONDS = ("threads", "trainings_at_once")  # what decides nothing but seconds
JOB = "slurm_job"  # the tag of a run that trained in a job (tracking/tags.py)
NOTHING = np.empty(0)
LARGEST_SWING = 0.25  # standard deviation of the seconds of an epoch, as a share of their mean
SHORTEST = 0.1  # seconds; shorter epochs always swing
NAMED = 3  # runs that a warning about disturbances names
LEAST_CPU = 0.5  # share of threads times seconds that an undisturbed training computes
# Relative difference of a train loss that rounding alone can cause, by epoch. Another order of the
# data changes that of the MLP on MNIST by 1 % in epoch 1; rounding changes the CNN's by 0.1 %.
ROUNDING = {0: 1e-4, 1: 5e-3}


def differences(history: pd.DataFrame, seconds: bool = True) -> list[str]:
    """A line for each difference between the runs that is not the subject of the comparison.

    seconds: whether those count that affect the seconds alone.
    """
    drawn, firsts = curves(history), history.drop_duplicates("run_id")
    compared = differing(history)
    subject = compared[:1]
    aside = {*subject, *(other for name in subject for other in GOES_WITH.get(name, ()))}
    aside |= set(() if seconds else OF_SECONDS)
    names = [name for name in (*compared, *LOGGED) if name not in aside]
    lines = [
        _line(name.replace("_", " "), _by_value(drawn, name, SHORT.get(name)))
        for name in names
        if name in firsts and firsts[name].nunique(dropna=False) > 1
    ]
    seeds: dict[str, list[str]] = {}
    for curve in drawn:
        of_curve = {str(each.values["seed"]) for each in curve.trainings}
        seeds.setdefault(", ".join(sorted(of_curve)), []).append(curve.label)
    if len(seeds) > 1:
        lines.append(_line("seeds", seeds))
    if "dataset_digest" in history:
        # A subset depends on the seed, so compare digests of equal dataset, subset and seed.
        digests = firsts.groupby(["dataset", "subset", "seed"])["dataset_digest"].nunique()
        if digests.max() > 1:
            lines.append(_line("data digest", _by_value(drawn, "dataset_digest", 9)))
    return lines


def _by_value(drawn: Sequence[Curve], name: str, length: int | None) -> dict[str, list[str]]:
    """By value: the labels of the curves that have it."""
    by_value: dict[str, list[str]] = {}
    for curve in drawn:
        for value in dict.fromkeys(str(each.values[name])[:length] for each in curve.trainings):
            by_value.setdefault(value, []).append(curve.label)
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
    if alone := [curve.label or "all runs" for curve in drawn if len(curve.trainings) == 1]:
        which = "; ".join(alone) if len(alone) < len(drawn) else "all runs"
        lines.append(f"one seed, so no spread: {which}")
    if len(drawn) > 1 and JOB in history and history[JOB].notna().any():
        lines.append("trained in jobs on shared nodes: do not compare seconds")
    compared = trainings_of(history)
    lines += _identical(compared)
    lines += _unlike(compared)
    disturbed: dict[str, list[str]] = {}
    for each in compared:
        name = f"{each.values['run_name']}, run {each.run_id}"
        lines += [f"{line}: {name}" for line in _scores(each)]
        for sign, numbers in _disturbances(each).items():
            disturbed.setdefault(sign, []).append(f"{numbers} in {name}")
    for sign, found in disturbed.items():
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        lines.append(f"{sign}: {'; '.join(found[:NAMED])}{more}")
    return lines


def _scores(training: Training) -> list[str]:
    """Warnings about the accuracies of a training."""
    lines = []
    last, planned = training.accuracies[-1], training.values["epochs"] + 1
    if training.last_epoch > 0 and last <= above_chance(evaluated_images([training])):
        lines.append(f"at chance after the last epoch, {last:.1%}")
    count = np.count_nonzero(~np.isnan(training.accuracies))
    if count < planned and training.complete:
        lines.append(f"only {count} of {planned} epochs have an accuracy")
    return lines


def _disturbances(training: Training) -> dict[str, str]:
    """Signs that the machine did other things meanwhile, with the numbers that show it."""
    found = {}
    seconds = seconds_of_epochs(training)
    mean = seconds.mean() if len(seconds) > 1 else 0.0
    if mean >= SHORTEST and (seconds / mean).std(ddof=1) > LARGEST_SWING:
        found["the machine was probably disturbed"] = (
            f"{seconds.min():.3g} to {seconds.max():.3g} s an epoch"
        )
    slowdowns, epochs = training.points.get("slowdown", NOTHING), training.points["epoch"]
    slow = slowdowns[slowdowns >= DISTURBED]
    numbers = training.points.get("next_threads", NOTHING)[:-1]
    changes = np.flatnonzero(np.abs(np.diff(numbers)) > 0) + 1  # no change where one is NaN
    if len(slow) or len(changes):
        signs = [f"threads: {numbers[n]:.0f} from epoch {epochs[n] + 1:.0f}" for n in changes]
        if len(slow):
            longest = f"up to {slow.max():.1f} times as long as on an idle machine"
            signs.insert(0, f"{longest} in {len(slow)} of {training.last_epoch} epochs")
        found["something else had the processor"] = ", ".join(signs)
    elif training.values["device_type"] == "cpu" and "train_cpu_seconds" in training.points:
        computed, trained = (
            training.points[name][-1] for name in ("train_cpu_seconds", "train_seconds")
        )
        threads = number_in(training.values, "threads")
        share = computed / (threads * trained) if trained and threads else math.nan
        if share < LEAST_CPU:
            found["something else had the processor"] = (
                f"{computed:.3g} CPU seconds in {trained:.3g} s with {threads:.0f} threads"
            )
    return found


def _unlike(compared: Sequence[Training]) -> list[str]:
    """Runs of one Config on two devices, or in two frameworks, that began differently.

    Such runs see the same data in the same order from the same weights.
    """
    lines = []
    alike: dict[tuple, list[Training]] = {}
    for each in compared:
        alike.setdefault(_deciding(each), []).append(each)
    for trained in alike.values():
        for one, other in combinations(trained, 2):
            for epoch, largest in ROUNDING.items():
                a, b = _loss_after(one, epoch), _loss_after(other, epoch)
                if not abs(a - b) > largest * max(abs(a), abs(b)):  # so also if one is NaN
                    continue
                lines.append(
                    f"one Config, but the train losses after epoch {epoch} differ by more than "
                    f"rounding, {a:.4g} and {b:.4g}: runs {one.run_id} and {other.run_id}"
                )
                break
    return lines


def _deciding(training: Training) -> tuple:
    return tuple(training.values[name] for name in DECIDING)


def _loss_after(training: Training, epoch: int) -> float:
    found = training.losses[training.points["epoch"] == epoch]
    return float(found[0]) if len(found) else math.nan


def _identical(compared: Sequence[Training]) -> list[str]:
    """Runs with identical losses although their parameters differ."""
    seen: dict[tuple, tuple[str, tuple]] = {}
    lines = []
    for each in compared:
        if len(each.losses) < 2:
            continue
        config = _deciding(each)
        other, other_config = seen.setdefault(tuple(each.losses), (each.run_id, config))
        if config != other_config:
            lines.append(
                f"identical histories, different parameters: runs {other} and {each.run_id}"
            )
    return lines
