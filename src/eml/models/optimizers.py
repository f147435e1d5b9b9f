"""The optimizers: a row for each, with its class and its default learning rates.

`config` checks names and rates against this table, so this module imports nothing that takes long.
"""

from typing import NamedTuple


class Optimizer(NamedTuple):
    """How an optimizer is made, and its learning rates if the user gives none (`auto`)."""

    learning_rate: dict[str, float]  # by model
    made_by: str  # module and class, whose other defaults hold
    options: tuple[str, ...] = ()  # fields of Config that the class takes besides the rate
    fused: tuple[str, ...] = ("cpu", "cuda")  # devices with one kernel for the whole step


# The rates are chosen by the mean accuracy after the last epoch on held-out training images, three
# seeds, never on test images; docs/optimizers.md, "The default rates", has all numbers. The sgd of
# the MLP has the course template's rate.
OPTIMIZERS = {
    "sgd": Optimizer({"mlp": 0.1, "cnn": 0.1}, "torch.optim.SGD"),
    "momentum": Optimizer({"mlp": 0.1, "cnn": 0.03}, "torch.optim.SGD", ("momentum",)),
    "adam": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.Adam"),
    "adamw": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.AdamW"),
    "nadam": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.NAdam", fused=()),
    "adamax": Optimizer({"mlp": 0.001, "cnn": 0.003}, "torch.optim.Adamax", fused=()),
    "rmsprop": Optimizer({"mlp": 0.001, "cnn": 0.0003}, "torch.optim.RMSprop", fused=()),
    # Its kernel for a GPU is new and untried here.
    "adagrad": Optimizer({"mlp": 0.01, "cnn": 0.003}, "torch.optim.Adagrad", fused=("cpu",)),
}
