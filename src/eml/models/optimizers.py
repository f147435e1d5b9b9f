"""The optimizers: a row for each, with its class and its default learning rates.

`config` checks names and rates against this table, so this module imports nothing that takes long.
"""

from typing import NamedTuple

RATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # half a decade apart
RATES_TRIED = 4


class Optimizer(NamedTuple):
    """How an optimizer is made, and its learning rates if the user gives none (`auto`)."""

    learning_rate: dict[str, float]  # by model
    made_by: str  # module and class, whose other defaults hold
    options: tuple[str, ...] = ()  # fields of Config that the class takes besides the rate
    fused: tuple[str, ...] = ("cpu", "cuda")  # devices with one kernel for the whole step
    highest_rate: float = 0.01  # that a search tries with the CNN

    @property
    def searched(self) -> tuple[float, ...]:
        """The rates that a search tries: RATES_TRIED of them, as many for each optimizer."""
        first = RATES.index(self.highest_rate)
        return RATES[first : first + RATES_TRIED]


# The rates are chosen by the mean accuracy after the last epoch on held-out training images, three
# seeds, never on test images; docs/optimizers.md, "The default rates", has all numbers. The sgd of
# the MLP has the course template's rate.
OPTIMIZERS = {
    "sgd": Optimizer({"mlp": 0.1, "cnn": 0.1}, "torch.optim.SGD", highest_rate=0.1),
    "momentum": Optimizer(
        {"mlp": 0.1, "cnn": 0.01}, "torch.optim.SGD", ("momentum",), highest_rate=0.03
    ),
    "adam": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.Adam"),
    "adamw": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.AdamW"),
    "nadam": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.NAdam", fused=()),
    "adamax": Optimizer({"mlp": 0.001, "cnn": 0.003}, "torch.optim.Adamax", fused=()),
    "rmsprop": Optimizer(
        {"mlp": 0.001, "cnn": 0.0003}, "torch.optim.RMSprop", fused=(), highest_rate=0.003
    ),
    # Its kernel for a GPU is new and untried here.
    "adagrad": Optimizer(
        {"mlp": 0.01, "cnn": 0.003}, "torch.optim.Adagrad", fused=("cpu",), highest_rate=0.03
    ),
}
