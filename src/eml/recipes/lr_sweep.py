"""The NumPy MLP on MNIST at several learning rates.

Question: how does the learning rate change the way the test accuracy develops?

Varies: the learning rate, and the seed where several are given. Fixed: all else, as in
mlp_numpy.

Expected: the larger the rate, the faster the accuracy rises, up to 1; small rates have not arrived
after 30 epochs: 0.985 test accuracy at 1, 0.982 at 0.1, 0.937 at 0.01 and 0.851 at 0.001. 4 to 6
minutes on two CPU cores for six rates and one seed.

Source: sheet 2, task 2.2 (2024: 2.1).
"""

from dataclasses import dataclass
from typing import Annotated

from eml.config import Config, ConfigError
from eml.recipes import mlp_numpy
from eml.recipes.recipe import OVER_EPOCHS, Recipe, SharedOptions, TrainingOptions, listed

LOWEST, HIGHEST = mlp_numpy.RECIPE.rates
TAKEN = f"at least five learning rates from {LOWEST:g} to {HIGHEST:g}"


@dataclass(frozen=True, kw_only=True)
class Options(SharedOptions):
    """Options of the sweep over learning rates."""

    lrs: Annotated[str, TAKEN] = "1.0,0.5,0.1,0.05,0.01,0.001"
    seeds: Annotated[str, "a training for each of them at each rate"] = str(TrainingOptions.seed)


def configs(options: Options) -> list[Config]:
    """For each seed, a training at each rate."""
    rates = listed("lrs", options.lrs, float)
    if len(rates) < 5 or not all(LOWEST <= rate <= HIGHEST for rate in rates):
        raise ConfigError(f"lrs={options.lrs}: give {TAKEN}")
    return [
        config
        for seed in listed("seeds", options.seeds, int)
        for rate in rates
        for config in mlp_numpy.configs(mlp_numpy.Options(lr=rate, seed=seed, **options.shared))
    ]


RECIPE = Recipe(
    name="lr_sweep",
    exercise="2.2 Learning rates",
    varies="learning_rate",
    about=__doc__,
    options=Options,
    configs=configs,
    figures=OVER_EPOCHS,
    reuses=True,
    rates=(LOWEST, HIGHEST),
)
