"""The sheet's CNN on CIFAR-10.

Question: how does the test accuracy of a small convolutional network develop, over epochs and
over training time, with the chosen optimizer?

Fixed: CIFAR-10 scaled to [0, 1] only, ReLU, PyTorch's own initial weights, cross-entropy
averaged over the batch, one order of the data for a seed.

Expected: with optimizer=adam at least 0.60 test accuracy after 3 epochs and the best, about
0.67, before the tenth; then it overfits. About 40 seconds an epoch on two CPU cores, so
about 20 minutes for 30.

Source: sheet 3, tasks 3.3 and 3.4.
"""

from eml.config import Config
from eml.recipes.recipe import Recipe, TorchOptions, torch_config

Options = TorchOptions


def configs(options: Options) -> list[Config]:
    """One training."""
    return [torch_config(options, "cifar_cnn", "cifar10", "cnn", "relu", "pytorch")]


RECIPE = Recipe(
    name="cifar_cnn",
    exercise="3.3 MLP and CNN",
    about=__doc__,
    options=Options,
    configs=configs,
)
