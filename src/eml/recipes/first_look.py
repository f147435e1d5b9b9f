"""A first look: each training on a small subset, for an epoch or two.

Question: does everything work here, and what does a run look like in the MLflow UI?

Expected: less than a minute on two CPU cores; accuracies far below those of full trainings.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from eml.config import Config
from eml.recipes import cifar_cnn, cifar_mlp, mlp_numpy, mlp_torch
from eml.recipes.recipe import OVER_EPOCHS, DeviceOptions, Recipe, Seed, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions):
    """Options of the first look at every training."""

    epochs: Annotated[int, "passes over the training images"] = 2
    subset: Annotated[int, "training images, class-balanced; a fifth as many to test"] = 1000
    seed: Seed = TrainingOptions.seed


def configs(options: Options) -> list[Config]:
    """One training of each network."""
    usual = TrainingOptions.batch_size
    alike: dict[str, Any] = {name: getattr(options, name) for name in ("epochs", "subset", "seed")}
    alike["batch_size"] = min(usual, options.subset or usual)
    return [
        *mlp_numpy.configs(mlp_numpy.Options(**alike)),
        *mlp_torch.configs(mlp_torch.Options(**alike)),
        *cifar_mlp.configs(cifar_mlp.Options(**alike)),
        *cifar_cnn.configs(cifar_cnn.Options(optimizer="adam", **alike)),
    ]


RECIPE = Recipe(name="main", about=__doc__, options=Options, configs=configs, figures=OVER_EPOCHS)
