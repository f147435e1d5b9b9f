"""The MLP on CIFAR-10.

Question: how far does the 3072-512-128-10 MLP get on colour photographs, beside the CNN?

Fixed: CIFAR-10 scaled to [0, 1] only, cross-entropy averaged over the batch, one order of the
data for a seed.

Expected: 0.40 to 0.47 test accuracy in the last ten of 30 epochs, which swings from epoch to
epoch, in about a minute and a half on two CPU cores.

Source: sheet 3, task 3.3.
"""

from eml.config import Config
from eml.recipes.recipe import MLPOptions, Recipe, torch_config

Options = MLPOptions


def configs(options: Options) -> list[Config]:
    """One training."""
    return [torch_config(options, "cifar_mlp", "cifar10", "mlp", options.activation, "pytorch")]


RECIPE = Recipe(
    name="cifar_mlp",
    exercise="3.3 MLP and CNN",
    about=__doc__,
    options=Options,
    configs=configs,
)
