"""Optimizers on the CNN and CIFAR-10, each at the learning rate that suits it best.

Question: how does the test accuracy develop, over epochs and over training time, with each?

Varies: the optimizer, its learning rate, and the seed. Fixed: all else, as in cifar_cnn.

Protocol, after DeepOBS (Schneider et al. 2019) and AlgoPerf (Dahl et al. 2023): the grid of
optimizers and rates is trained with one seed, a tenth of the training images held out, class by
class, for validation. Halfway, the worse half of each optimizer's trainings stops. An optimizer's
rate is the one with the highest validation accuracy after the last epoch (criterion=best: of any
epoch); of rates that are tied within the error of the validation images it is the middle one. A
best rate at the grid's edge extends the grid by a step. The winners are trained on all training
images with all seeds, never stopped early, only these see the test images, and they are compared
by the same criterion. A diverged training is a failure of its rate.

Expected: the adaptive optimizers and momentum are ahead in the first epochs, and overfit first;
plain SGD starts slower and gets close to them by the end. By its own estimate about 9 hours on two
CPU cores; not run in full so far.

Source: sheet 3, task 3.4.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from eml.analysis.labels import CRITERIA, LAST, Criterion
from eml.config import Config, ConfigError, one_of
from eml.data.specs import SPECS
from eml.models.optimizers import OPTIMIZERS
from eml.recipes import cifar_cnn
from eml.recipes.recipe import OVER_BOTH, DeviceOptions, Recipe, SharedOptions, listed

PRUNING = ("halving", "none")


@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions, SharedOptions):
    """Options of the comparison of optimizers."""

    how = (*DeviceOptions.how, "budget_minutes")

    optimizers: Annotated[str, f"some of {', '.join(OPTIMIZERS)}"] = "sgd,momentum,adam,rmsprop"
    lrs: Annotated[str, "learning rates of the grid, two or more"] = "0.1,0.03,0.01,0.003,0.001"
    seeds: Annotated[str, "the grid is trained with the first, the winners with all"] = "1,2,3"
    prune: Annotated[str, f"stop the worse half of the grid halfway: {' or '.join(PRUNING)}"] = (
        "halving"
    )
    criterion: Criterion = LAST
    extend: Annotated[int, "steps beyond the grid, for an optimizer that is best at its edge"] = 2
    budget_minutes: Annotated[float, "what does not fit in is left out; 0: no limit"] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("prune", self.prune, PRUNING)
        one_of("criterion", self.criterion, CRITERIA)
        if self.extend < 0:
            raise ConfigError(f"extend={self.extend}: give 0 or more")
        if not self.budget_minutes >= 0:
            raise ConfigError(f"budget_minutes={self.budget_minutes}: give 0 or more")
        if self.subset and self.subset < 100:  # of a tenth of them, one of each class
            raise ConfigError(f"subset={self.subset}: give 100 or more, or 0 for all")

    @property
    def winners_seeds(self) -> list[int]:
        """The seeds that the winners are trained with; the grid is with the first."""
        return listed("seeds", self.seeds, int)


def configs(options: Options) -> list[Config]:
    """The grid: each optimizer at each rate."""
    rates = listed("lrs", options.lrs, float)
    if len(rates) < 2:
        raise ConfigError(f"lrs={options.lrs}: give at least two learning rates")
    images = options.subset or SPECS["cifar10"].train_size
    alike = options.shared | {"seed": options.winners_seeds[0]}
    return [
        replace(config, validation=images // 10)
        for name in listed("optimizers", options.optimizers, str)
        for rate in rates
        for config in cifar_cnn.configs(cifar_cnn.Options(optimizer=name, lr=str(rate), **alike))
    ]


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
