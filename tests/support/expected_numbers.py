"""The numbers of a hand-in, computed with plain loops from the tables of mlflow.db."""

import itertools
import math
import re

from support.tables import (
    CHANCE,
    Stored,
    curves,
    differing,
    label,
    mean,
    mean_curve,
    median,
    summary_row,
)

Printed = dict[str, tuple[str, float]]  # by name: how a number is printed, and its value
OfRuns = dict[str, tuple[str, float, tuple[str, ...]]]  # the same, with the ids of its runs
VARIES = {"lr_sweep": "learning_rate", "cpu_vs_gpu": "device_type", "mlp_vs_cnn": "model"}


def numbers_of(curve: list[Stored]) -> Printed:
    """By name: how the number is printed, and its value; without what does not exist."""
    row, params = summary_row(curve), curve[0].params
    numbers = {
        "n": ("whole", row["n"]),
        "epochs": ("whole", row["epochs"]),
        "batch_size": ("whole", int(params["batch_size"])),
        "learning_rate": ("plain", float(params["learning_rate"])),
        "parameters": ("thousands", row["parameters"]),
        "final_test_accuracy": ("per cent", row["final_test_accuracy"]),
        "best_test_accuracy": ("per cent", row["best_test_accuracy"]),
        "final_lowest": ("per cent", row["final_lowest"]),
        "final_highest": ("per cent", row["final_highest"]),
        "diverged_in_epoch": of_seeds([r.diverged for r in curve if r.diverged is not None]),
        "best_epoch": of_seeds([int(text) for text in row["best_epoch"].split(", ") if text]),
        "seconds_per_epoch": ("digits", row["train_seconds_per_epoch"]),
    }
    if any(run.epoch_seconds for run in curve):
        clocks = [run.points["train_seconds"] for run in curve if "train_seconds" in run.points]
        numbers["train_seconds"] = ("digits", mean([max(clock.values()) for clock in clocks]))
    for loss in ("train_loss", "test_loss"):
        means = list(mean_curve(curve, loss).items())
        for epoch, value in [min(means, key=lambda point: point[1])] if means else []:
            numbers[f"initial_{loss}"] = ("digits", means[0][1])
            numbers[f"final_{loss}"] = ("digits", means[-1][1])
            numbers[f"lowest_{loss}"] = ("digits", value)
            numbers[f"lowest_{loss}_epoch"] = ("whole", epoch)
    return {name: number for name, number in numbers.items() if not math.isnan(number[1])}


def of_seeds(epochs: list[int]) -> tuple[str, float]:
    """An epoch of each seed: one if they are equal."""
    text = ", ".join(map(str, epochs if len(set(epochs)) > 1 else epochs[:1]))
    return text, epochs[0] if epochs else math.nan


def numbers_of_pair(one: list[Stored], other: list[Stored]) -> Printed:
    score_of = {run.seed: run.score() for run in other}
    differences = [
        run.score() - score_of[run.seed]
        for run in one
        if not math.isnan(run.score() - score_of.get(run.seed, math.nan))
    ]
    seconds = [mean([s for run in curve for s in run.epoch_seconds]) for curve in (one, other)]
    numbers = {
        "difference": ("points", mean(differences)),
        "seconds_ratio": ("digits", seconds[0] / seconds[1]),
    }
    return {name: number for name, number in numbers.items() if not math.isnan(number[1])}


def starts(recipe: str, of: list[list[Stored]], names: list[str]) -> list[str]:
    """The beginnings of the names of the curves' numbers."""
    if recipe == "mlp_numpy":
        return [recipe]
    varied = [curve[0].params[VARIES.get(recipe, "optimizer")] for curve in of]
    if len(set(varied)) < len(of):
        varied = [re.sub(r"[^\w.]+", "_", label(curve, names).lower()) for curve in of]
    return [f"{recipe}.{text}" for text in varied]


def expected_numbers(recipe: str, runs: list[Stored]) -> OfRuns:
    """By name: how a number of `handin numbers` is printed, its value and its runs."""
    finals = [run for run in runs if run.split == "test"]
    names = differing(finals)
    of = curves(finals, names)
    by_start = dict(zip(starts(recipe, of, names), of, strict=True))
    numbers = {
        f"{start}.{name}": (*number, tuple(run.run_id for run in curve))
        for start, curve in by_start.items()
        for name, number in numbers_of(curve).items()
    }
    for (one, curve), (other, second) in itertools.permutations(by_start.items(), 2):
        ids = tuple(run.run_id for run in curve + second)
        for name, number in numbers_of_pair(curve, second).items():
            numbers[f"{one}.{name}_to_{other.removeprefix(recipe + '.')}"] = (*number, ids)
    for run in runs:
        values = [accuracy for _, accuracy in run.scored]
        half = values[-(len(values) // 2 or 1) :] if run.complete else [math.nan]
        accuracy = CHANCE if run.diverged is not None else median(half)
        if run.split == "validation" and not math.isnan(accuracy):
            rate = f"{run.params['optimizer']}.{run.params['learning_rate']}"
            numbers[f"{recipe}.searched.{rate}"] = ("per cent", accuracy, (run.run_id,))
    return numbers


def changed(
    before: OfRuns,
    after: OfRuns,
) -> set[str]:
    """The names of the numbers that have other values or runs, or are no more."""
    return {
        name
        for name, (_, value, ids) in before.items()
        if name not in after
        or after[name][2] != ids
        or not math.isclose(after[name][1], value, rel_tol=1e-9)
    }
