"""Random trainings with traps, written through MLflow's client."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from eml.config import Config
from support import tables
from support.commands import config_of
from support.tables import Stored

TRAPS = [
    *("whole", "diverged", "infinite", "tagged"),
    *("diverged", "unfinished", "short", "gaps", "no accuracy", "no seconds", "a lost epoch"),
    *("twice", "again", "no epoch"),
]


class RandomRuns:
    """Writes trainings; the time at which a run starts is not the order in which it is written."""

    def __init__(self, client: MlflowClient, random: Random):
        self.client, self.random, self.experiment = client, random, "1"

    def create(self, **tags: str) -> str:
        """A run without anything but tags; its id."""
        start = self.random.randrange(10**9, 10**12)
        run = self.client.create_run(self.experiment, start_time=start, tags=tags)
        return str(run.info.run_id)

    def sweep(self, recipe: str, configs: Sequence[Config]) -> str:
        """A finished parent of a training with each Config; its id."""
        parent = self.create(recipe=recipe)
        for config in configs:
            self.training(config, **{"mlflow.parentRunId": parent})
        self.client.set_terminated(parent)
        return parent

    def training(self, config: Config, **tags: str) -> str:
        """A training, in half of all cases with a trap; its id."""
        trap = self.random.choice(TRAPS) if self.random.random() < 0.5 else ""
        tags |= {"recipe": config.recipe}
        if trap == "again":  # an older or newer training with the same Config
            self._log(self.create(**tags), config, self.random.choice(TRAPS[:4]))
        if trap == "tagged":
            tags["diverged"] = self.random.choice(["true", "epoch 2", "epoch 99"])
        tags["training_digest"] = "a"
        run_id = self.create(**tags)
        self._log(run_id, config, trap)
        return run_id

    def _log(self, run_id: str, config: Config, trap: str) -> None:
        images = self.random.choice([10000, 9000, 2000])
        params = vars(config) | {"parameters": 468874, f"{config.evaluated}_images": images}
        self.client.log_batch(
            run_id,
            [] if trap == "no epoch" else self._points(config, trap),
            [Param(name, str(value)) for name, value in params.items()],
        )
        status = self.random.choice(["KILLED", "FAILED", ""]) if trap == "unfinished" else None
        if status != "":
            self.client.set_terminated(run_id, status)

    def _points(self, config: Config, trap: str) -> list[Metric]:
        random, last, split = self.random, config.epochs, config.evaluated
        lost = random.randint(1, last)
        if trap == "diverged":
            last = lost
        if trap in ("unfinished", "short"):
            last = random.randrange(last)
        scale, seconds, accuracy = random.choice([0.004, 2.0, 700.0]), 0.0, 0.1
        points = []
        for epoch in range(last + 1):
            # Rounded, so that there are ties.
            values = {f"{split}_accuracy": round(accuracy, 2)}
            for name in ("train_loss", f"{split}_loss"):
                values[name] = round(2.3 - accuracy + random.uniform(-0.1, 0.1), 2)
            values |= {"train_seconds": seconds, "wall_seconds": 2 * seconds}
            accuracy = min(max(accuracy + random.uniform(-0.15, 0.3), 0.0), 1.0)
            seconds += scale * random.uniform(0.8, 1.2)
            if epoch == last and trap == "diverged":
                values |= dict.fromkeys(values.keys() - {"train_seconds", "wall_seconds"}, math.nan)
            if epoch >= lost and trap == "infinite":
                values[f"{split}_loss"] = math.inf
            if trap == "a lost epoch" and epoch == lost and epoch < last:
                continue
            if trap == "no accuracy" or (trap == "gaps" and random.random() < 0.4):
                del values[f"{split}_accuracy"]
            if trap == "no seconds" or (trap == "gaps" and random.random() < 0.4):
                del values["train_seconds"]
            if trap == "twice" and epoch == lost:
                old = {name: value * 3 for name, value in values.items()}
                points += [Metric(name, value, 500, epoch) for name, value in old.items()]
            points += [Metric(name, value, 1000, epoch) for name, value in values.items()]
        # No epoch: the result, and a metric of the user's own.
        return [*points, Metric(f"final_{split}_accuracy", 0.9, 1000, 0), Metric("mine", 1, 9, 99)]


def seeds_of(config: Config, random: Random) -> list[Config]:
    """Two to four of the seeds 1 to 5, or one."""
    count = random.choice([1, 2, 3, 4, 4])
    return [replace(config, seed=seed) for seed in random.sample(range(1, 6), count)]


def all_recipes(runs: RandomRuns) -> dict[str, list[str]]:
    """Trainings for both sheets: by recipe the ids of a parent, or of the trainings."""
    random = runs.random

    def sweep(recipe: str, curves: Sequence[Config], search: Sequence[Config] = ()) -> list[str]:
        epochs = random.randint(3, 6)
        longer = random.choice([0, 0, 2])  # of one curve
        lengths = [epochs + longer, *[epochs] * (len(curves) - 1)]
        seeds = [
            one
            for config, length in zip(curves, lengths, strict=True)
            for one in seeds_of(replace(config, epochs=length), random)
        ]
        return [runs.sweep(recipe, [*search, *seeds])]

    by_rate = [config_of("mlp_numpy", lr=lr) for lr in (0.1, 0.101, 0.102, 0.5)]
    cnn = config_of("cifar_cnn", device="cpu", lr="0.1")
    on_cpu = config_of("mlp_torch", device="cpu")
    names = random.sample([("sgd", 0.1), ("adam", 0.001), ("rmsprop", 0.01), ("sgd", 0.05)], 3)
    finals = [replace(cnn, optimizer=name, learning_rate=rate) for name, rate in names]
    search = [
        replace(cnn, optimizer=name, learning_rate=rate, validation=5000, epochs=5)
        for name in dict(names)
        for rate in (0.1, 0.05, 0.01, 0.001)
    ]
    mlp = [config_of("mlp_numpy", epochs=5, seed=seed) for seed in (1, 2, 3)]
    return {
        "mlp_numpy": [runs.training(config) for config in mlp],
        "lr_sweep": sweep("lr_sweep", random.sample(by_rate, random.randint(2, 4))),
        "cpu_vs_gpu": sweep("cpu_vs_gpu", [replace(on_cpu, device_type="cuda"), on_cpu]),
        "mlp_vs_cnn": sweep("mlp_vs_cnn", [config_of("cifar_mlp", device="cpu"), cnn]),
        "optimizers": sweep("optimizers", finals, search),
    }


def written(client: MlflowClient, folder: Path, seed: int) -> dict[str, list[Stored]]:
    """Write random trainings for both sheets; return the comparable ones as the tables have them.

    folder: of mlflow.db. By recipe.
    """
    ids = all_recipes(RandomRuns(client, Random(seed)))
    runs = tables.read(folder / "mlflow.db").values()
    of = {run.run_id: run.tags.get("mlflow.parentRunId", run.run_id) for run in runs}
    return {
        recipe: tables.compared([run for run in runs if of[run.run_id] in tops and run.params])
        for recipe, tops in ids.items()
    }


def name_runs(runs: Mapping[str, Sequence[Stored]]) -> Callable[[Any], None]:
    """A change of a form that names these runs by recipe."""

    def change(form: Any) -> None:
        for exercise in form["exercise"].values():
            for recipe in runs.keys() & exercise.keys():
                exercise[recipe]["runs"] = [run.run_id for run in runs[recipe]]

    return change
