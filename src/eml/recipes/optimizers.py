"""Optimizers on the CNN and CIFAR-10, each at the learning rate that suits it best.

Question: how does the test accuracy develop, over epochs and over training time, with each?

Varies: the optimizer, its learning rate, and the seed. Fixed: all else, as in cifar_cnn.

Protocol, in two stages. The search: every rate is trained for a few epochs (search_epochs) with one
seed, on nine tenths of the training images, and judged on the other tenth by the median accuracy of
the last half of its epochs; of rates that are tied within the error of these images the middle one
is chosen. The final trainings: each optimizer at its chosen rate, on all training images, with all
seeds; only these see the test images. Every optimizer gets the same number of rates, around its own
default. Nothing but divergence stops a training: a diverged one cannot be chosen, and beside a
final training that diverges the next lower rate is trained.

Expected: the adaptive optimizers and momentum are ahead in the first epochs, and overfit first;
plain SGD starts slower and gets close to them by the end.

Source: sheet 3, task 3.4.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from eml.config import AUTO, Config, ConfigError, one_of
from eml.data.specs import SPECS
from eml.models.optimizers import OPTIMIZERS
from eml.recipes import cifar_cnn
from eml.recipes.recipe import OVER_BOTH, DeviceOptions, Recipe, SharedOptions, listed

SEEDS_OF_A_VERDICT = 3


@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions, SharedOptions):
    """Options of the comparison of optimizers."""

    optimizers: Annotated[str, f"some of {', '.join(OPTIMIZERS)}, in any case"] = "SGD,Adam,RMSprop"
    lrs: Annotated[
        str, f"learning rates to try with each, two or more; {AUTO}: around its default"
    ] = AUTO
    search_epochs: Annotated[int, "of each training of the search, at most epochs"] = 6
    seeds: Annotated[str, "of the final trainings"] = str(cifar_cnn.Options.seed)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search_epochs < 1:
            raise ConfigError(f"search_epochs={self.search_epochs}: give 1 or more")
        if self.subset and self.subset < 100:  # of a tenth of them, one of each class
            raise ConfigError(f"subset={self.subset}: give 100 or more, or 0 for all")

    @property
    def finals_seeds(self) -> list[int]:
        """The seeds of the final trainings; the search is with the first."""
        return listed("seeds", self.seeds, int)


def configs(options: Options) -> list[Config]:
    """The search: each optimizer at each rate."""
    names = listed("optimizers", options.optimizers, str)
    given = [] if options.lrs == AUTO else listed("lrs", options.lrs, float)
    if len(given) == 1:
        raise ConfigError(f"lrs={options.lrs}: give at least two learning rates, or {AUTO}")
    images = options.subset or SPECS["cifar10"].train_size
    alike = options.shared | {
        "seed": options.finals_seeds[0],
        "epochs": min(options.search_epochs, options.epochs),
    }
    for name in names:
        one_of("optimizer", name, OPTIMIZERS)
    return [
        replace(config, validation=images // 10)
        for name in names
        for rate in given or OPTIMIZERS[name].searched
        for config in cifar_cnn.configs(cifar_cnn.Options(optimizer=name, lr=str(rate), **alike))
    ]


def final(config: Config, options: Options, seed: int) -> Config:
    """The final training with the optimizer and the rate of a Config."""
    return replace(config, validation=0, epochs=options.epochs, seed=seed)


RECIPE = Recipe(
    name="optimizers",
    exercise="3.4 Optimizers",
    varies="optimizer",
    about=__doc__,
    options=Options,
    configs=configs,
    figures=OVER_BOTH,
    reuses=True,
)
