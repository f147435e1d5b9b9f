"""The MLP and the CNN on CIFAR-10.

Question: how do the test accuracies of the two develop, over epochs and over training time?

Varies: the network, and with it activation and the learning rate that works for it. Fixed: all
else.

Expected: the CNN is ahead after every epoch, 0.63 to 0.41 after 30, but behind in the first
half minute: an epoch of it takes about ten times as long. 15 to 30 minutes on two CPU cores.

Source: sheet 3, task 3.3.
"""

from dataclasses import dataclass

from eml.config import Config
from eml.recipes import cifar_cnn, cifar_mlp
from eml.recipes.recipe import OVER_BOTH, DeviceOptions, OptimizerName, Recipe, TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions, TrainingOptions):
    """Options of two networks that are trained alike."""

    optimizer: OptimizerName = cifar_cnn.Options.optimizer


def configs(options: Options) -> list[Config]:
    """One training of each network."""
    alike = options.shared | {"seed": options.seed, "optimizer": options.optimizer}
    return [c for one in (cifar_mlp, cifar_cnn) for c in one.configs(one.Options(**alike))]


RECIPE = Recipe(
    name="mlp_vs_cnn",
    exercise="3.3 MLP and CNN",
    varies="model",
    about=__doc__,
    options=Options,
    configs=configs,
    figures=OVER_BOTH,
)
