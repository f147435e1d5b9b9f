"""The MLP on MNIST in NumPy, every derivative by hand.

Question: how do train and test loss and the test accuracy of the 784-512-128-10 MLP develop
over the epochs?

Fixed: MNIST scaled to mean 0 and standard deviation 1, sigmoid, cross-entropy averaged over the
batch, plain gradient descent, the template's initial weights, one order of the data for a seed.

Expected: both losses fall fast in the first epochs; later the train loss falls on, while the test
loss levels off. At least 0.978 test accuracy after 30 epochs with the defaults, in 30 to 60 seconds
on two CPU cores.

Source: sheet 2, task 2.2 (2024: 2.1).
"""

from dataclasses import dataclass
from typing import Annotated

from eml.config import Config
from eml.models.optimizers import OPTIMIZERS
from eml.recipes.recipe import Recipe, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Options of the NumPy MLP."""

    lr: Annotated[float, "learning rate"] = OPTIMIZERS["sgd"].learning_rate["mlp"]


def configs(options: Options) -> list[Config]:
    """One training."""
    return [
        Config(
            recipe="mlp_numpy",
            framework="numpy",
            dataset="mnist",
            model="mlp",
            activation="sigmoid",
            init="template",
            optimizer="sgd",
            learning_rate=options.lr,
            seed=options.seed,
            device_type="cpu",
            **options.of_config,
        )
    ]


RECIPE = Recipe(
    name="mlp_numpy",
    exercise="2.2 Neural network from scratch",
    about=__doc__,
    options=Options,
    configs=configs,
    rates=(0.001, 1.0),  # that lr_sweep takes, too
)
