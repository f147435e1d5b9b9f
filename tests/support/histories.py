"""Histories made by hand, in the form of history.load_history."""

import dataclasses
import math
import zlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from eml.analysis.figures import FIGURES
from eml.recipes import RECIPES
from support.commands import config_of

NAN = math.nan


def run(
    run_id: str,
    accuracies: Sequence[float],
    *,
    tags: dict[str, Any] | None = None,
    losses: Sequence[float] | None = None,
    seconds: float = 2.0,
    optimizer: str = "",
    validation: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """One run of mlp_numpy, or of cifar_cnn with an optimizer, with these test accuracies.

    A NaN is a diverged epoch. Every epoch is trained in `seconds`. validation: images that are
    evaluated in place of the test images.
    """
    options = {"epochs": len(accuracies) - 1 or 1} | options
    if optimizer:
        config = config_of("cifar_cnn", optimizer=optimizer, device="cpu", **options)
    else:
        config = config_of("mlp_numpy", **options)
    config = dataclasses.replace(config, validation=validation)
    rows = []
    for epoch, accuracy in enumerate(accuracies):
        # Other losses for other runs, as real ones have them.
        loss = (
            losses[epoch]
            if losses
            else 2.3 - accuracy - (zlib.crc32(run_id.encode()) % 997 / 1e6 if epoch else 0)
        )
        rows.append(
            {
                "run_id": run_id,
                "store": "",
                "run_name": config.run_name,
                "status": "FINISHED",
                "experiment_id": "1",
                **dataclasses.asdict(config),
                "parameters": 1000,
                "dataset_digest": f"{config.dataset} {config.subset} {config.seed}",
                "hardware": "a CPU",
                "git_commit": "0" * 40,
                **(tags or {}),
                "epoch": epoch,
                "train_loss": loss,
                f"{config.evaluated}_loss": loss,
                f"{config.evaluated}_accuracy": accuracy,
                "train_seconds": seconds * epoch,
                "wall_seconds": 1 + 1.5 * seconds * epoch,
                "slowdown": NAN,
                "next_threads": NAN,
            }
        )
    return pd.DataFrame(rows)


def together(*runs: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(runs, ignore_index=True)


def figures_of(recipe: str) -> dict[str, Any]:
    """The figures of a recipe, by name."""
    return {name: FIGURES[name].draw for name in RECIPES[recipe].figures}


# Learning rates, of which one diverges.
SWEEP = together(
    run("a", [0.1, 0.9, 0.8], lr=1.0),
    run("b", [0.1, 0.3, 0.5], lr=0.001),
    run("c", [0.1, 0.2, NAN], lr=0.5),
)
# What a search has tried; one diverged.
GRID = together(
    run("a", [0.1, 0.4, 0.5], optimizer="sgd", lr="0.1", validation=5000),
    run("b", [0.1, 0.3, 0.6], optimizer="sgd", lr="0.01", validation=5000),
    run("c", [0.1, 0.2, float("nan")], optimizer="sgd", lr="1", validation=5000),
    run("d", [0.1, 0.6, 0.3], optimizer="adam", lr="0.001", validation=5000),
)
