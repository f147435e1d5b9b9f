"""The MLP on MNIST, with PyTorch's automatic differentiation.

Question: how does the test accuracy of the 784-512-128-10 MLP develop, over epochs and over
training time, when PyTorch derives the gradients?

Fixed: as in mlp_numpy, down to initial weights and order, so the two curves are one experiment.

Expected: at least 0.978 test accuracy after 30 epochs with the defaults, in about a minute on
two CPU cores.

Source: sheet 3, task 3.2.
"""

from eml.config import Config
from eml.recipes.recipe import MLPOptions, Recipe, torch_config

Options = MLPOptions


def configs(options: Options) -> list[Config]:
    """One training."""
    return [torch_config(options, "mlp_torch", "mnist", "mlp", options.activation, "template")]


RECIPE = Recipe(
    name="mlp_torch",
    exercise="3.2 Automatic differentiation",
    about=__doc__,
    options=Options,
    configs=configs,
)
