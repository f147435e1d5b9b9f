"""Reads mlflow.db with sqlite3 alone, and computes with plain loops: shares no code with eml."""

import math
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

CHANCE = 0.1
WORDS = {"cpu": "CPU", "cuda": "GPU", "mlp": "MLP", "cnn": "CNN"}
WORDS |= {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam", "rmsprop": "RMSprop"}
LOGGED = ("train_loss", "test_loss", "test_accuracy", "validation_loss", "validation_accuracy")
EPOCHS = (*LOGGED, "train_seconds", "wall_seconds")  # metrics whose steps are epochs
NO_CONFIG = (
    "recipe",
    "parameters",
    "test_images",
    "validation_images",
)  # parameters that make no other training


@dataclass
class Stored:
    """A run as the tables have it. points: by metric and epoch; NaN where it is not finite."""

    run_id: str
    status: str
    start: int
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]
    points: dict[str, dict[int, float]]

    @property
    def config(self) -> dict[str, str]:
        """What decides the training."""
        return {key: text for key, text in self.params.items() if key not in NO_CONFIG}

    @property
    def split(self) -> str:
        return "test" if self.params["validation"] == "0" else "validation"

    @property
    def seed(self) -> str:
        return self.params["seed"]

    @property
    def planned(self) -> int:
        return int(self.params["epochs"])

    @property
    def last(self) -> int:
        return max(max(by_epoch) for by_epoch in self.points.values())

    @property
    def scored(self) -> list[tuple[int, float]]:
        """The epochs with an accuracy, and the accuracies."""
        by_epoch = sorted(self.points.get(f"{self.split}_accuracy", {}).items())
        return [(epoch, value) for epoch, value in by_epoch if not math.isnan(value)]

    @property
    def diverged(self) -> int | None:
        lost = [
            epoch
            for metric in LOGGED
            for epoch, value in self.points.get(metric, {}).items()
            if math.isnan(value)
        ]
        tag = self.tags.get("diverged", "")
        if lost or not tag:
            return min(lost, default=None)
        return min(int(tag.removeprefix("epoch ")), self.last) if tag != "true" else self.last

    @property
    def unfinished(self) -> bool:
        return self.diverged is None and self.last < self.planned

    @property
    def complete(self) -> bool:
        return self.diverged is None and self.last == self.planned and bool(self.scored)

    def score(self, kind: str = "last") -> float:
        if not self.complete:
            return math.nan if self.diverged is None else CHANCE
        values = [value for _, value in self.scored]
        if kind == "median":
            half = sorted(values[-max(1, len(values) // 2) :])
            return (half[(len(half) - 1) // 2] + half[len(half) // 2]) / 2
        return max(values) if kind == "best" else values[-1]

    @property
    def epoch_seconds(self) -> list[float]:
        """Epochs without a clock have their mean."""
        clock = sorted(self.points.get("train_seconds", {}).items())
        return [
            (end - start) / (epoch - before)
            for (before, start), (epoch, end) in pairwise(clock)
            for _ in range(before, epoch)
        ]


def read(file: Path) -> dict[str, Stored]:
    """All runs by id, oldest first."""
    with sqlite3.connect(file) as db:
        rows = db.execute("SELECT run_uuid, status, start_time, lifecycle_stage FROM runs")
        runs = {
            run_id: Stored(run_id, status, start, stage == "deleted", {}, {}, {})
            for run_id, status, start, stage in sorted(rows, key=lambda row: row[2])
        }
        for run_id, key, text in db.execute("SELECT run_uuid, key, value FROM params"):
            runs[run_id].params[key] = text
        for run_id, key, text in db.execute("SELECT run_uuid, key, value FROM tags"):
            runs[run_id].tags[key] = text
        columns = "run_uuid, key, step, value, is_nan"
        for run_id, key, step, value, nan in db.execute(
            f"SELECT {columns} FROM metrics ORDER BY timestamp"
        ):
            if key in EPOCHS:  # the last point of an epoch counts
                value = math.nan if nan or abs(value) >= sys.float_info.max else value
                runs[run_id].points.setdefault(key, {})[step] = value
    db.close()
    return runs


def compared(runs: Sequence[Stored]) -> list[Stored]:
    """The trainings with an epoch, of each Config the newest, a finished one before others."""
    kept: dict[tuple[str, ...], Stored] = {}
    for run in runs:
        key = tuple(sorted(map(str, run.config.items())))
        older = kept.get(key)
        if older is None or (run.status == "FINISHED") >= (older.status == "FINISHED"):
            kept[key] = run
    return [run for run in runs if run in kept.values() and run.points]


def differing(runs: Sequence[Stored]) -> list[str]:
    """The parameters of Config, but the seed, that have several values."""
    names = [name for name in runs[0].config if name != "seed"]
    return [name for name in names if len({run.params[name] for run in runs}) > 1]


def curves(runs: Sequence[Stored], names: Sequence[str]) -> list[list[Stored]]:
    """The trainings grouped by these parameters, in the order of their values."""
    groups: dict[tuple[float | str, ...], list[Stored]] = {}
    for run in runs:
        groups.setdefault(tuple(parsed(run.params[name]) for name in names), []).append(run)
    return [groups[key] for key in sorted(groups)]


def label(curve: Sequence[Stored], names: Sequence[str]) -> str:
    """The words of a curve; "" if nothing differs."""
    texts = {name: WORDS.get(text, text) for name, text in curve[0].params.items()}
    parts = [texts[name] for name in ("model", "device_type", "optimizer") if name in names]
    if "learning_rate" in names or "optimizer" in names:
        parts.append(f"learning rate {texts['learning_rate']}")
    return ", ".join([*parts, *[f"epochs {texts['epochs']}"] * ("epochs" in names)])


def parsed(text: str) -> float | str:
    """A parameter as a number, if it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def mean(values: Sequence[float]) -> float:
    """NaN without values. Adds in order, as ties of means are to be ties of the same bits."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values) if values else math.nan


def median(values: Sequence[float]) -> float:
    """NaN if one is NaN."""
    values = sorted(values, key=lambda value: (not math.isnan(value), value))
    middle = values[(len(values) - 1) // 2], values[len(values) // 2]
    return math.nan if math.isnan(values[0]) else (middle[0] + middle[1]) / 2


def scores(curve: Sequence[Stored], kind: str = "last") -> list[float]:
    """Of the seeds that have ended; none where no seed is complete."""
    if not any(run.complete for run in curve):
        return []
    return [score for run in curve if not math.isnan(score := run.score(kind))]


def mean_curve(curve: Sequence[Stored], metric: str) -> dict[int, float]:
    """The mean over the seeds that have a value, by epoch.

    The accuracy of a diverged seed is CHANCE to the last epoch in which any seed has one.
    """
    by_epoch: dict[int, list[float]] = {}
    reached = [e for run in curve for e, v in run.points.get(metric, {}).items() if v == v]
    for run in curve:
        values = dict(run.points.get(metric, {}))
        if run.diverged is not None and metric.endswith("accuracy"):
            epochs = {epoch for other in curve for by in other.points.values() for epoch in by}
            values |= {epoch: CHANCE for epoch in epochs if epoch >= run.diverged}
        for epoch, value in values.items():
            if not math.isnan(value) and epoch <= max(reached, default=-1):
                by_epoch.setdefault(epoch, []).append(value)
    return {epoch: mean(by_epoch[epoch]) for epoch in sorted(by_epoch)}


def summary_row(curve: Sequence[Stored]) -> dict[str, Any]:
    """The columns of summary.csv; without verdicts, intervals and what is named."""
    complete, split = [run for run in curve if run.complete], curve[0].split
    finals, bests = scores(curve), scores(curve, "best")
    seconds = sorted(value for run in curve for value in run.epoch_seconds)
    best_epochs = [
        next(epoch for epoch, value in run.scored if value == run.score("best")) for run in complete
    ]
    row = {
        "n": len(curve),
        "complete": len(complete),
        f"final_{split}_accuracy": mean(finals),
        "final_lowest": min(finals, default=math.nan),
        "final_highest": max(finals, default=math.nan),
        f"best_{split}_accuracy": mean(bests),
        "best_epoch": ", ".join(map(str, best_epochs)),
        "epochs": curve[0].planned,
        "last_epoch": max(run.last for run in curve),
        "train_seconds_per_epoch": mean(seconds),
        "seconds_lowest": seconds[(len(seconds) - 1) // 10] if seconds else math.nan,
        "seconds_highest": seconds[-((len(seconds) - 1) // 10) - 1] if seconds else math.nan,
        "parameters": 468874,
        "diverged": _named(curve, "diverged", "in epoch"),
        "unfinished": _named([run for run in curve if run.unfinished], "last", "after epoch"),
        "run_ids": " ".join(run.run_id for run in curve),
    }
    return row


def _named(curve: Sequence[Stored], name: str, at: str) -> str:
    epochs = [(run.seed, getattr(run, name)) for run in curve]
    return ", ".join(f"seed {seed} {at} {epoch}" for seed, epoch in epochs if epoch is not None)
