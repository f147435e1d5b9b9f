"""The optimizers: a row for each, with its class and its default learning rates.

`config` checks names and rates against this table, so this module imports nothing that takes long.
"""

from typing import NamedTuple

RATES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)  # half a decade apart
RATES_TRIED = 4
ON_ALL = ("cpu", "cuda")


class Optimizer(NamedTuple):
    """How an optimizer is made, and its learning rates if the user gives none (`auto`)."""

    learning_rate: dict[str, float]  # by model, where one was chosen
    made_by: str  # module and class, whose other defaults hold
    options: tuple[str, ...] = ()  # fields of Config that the class takes besides the rate
    fused: tuple[str, ...] = ()  # devices with one kernel for the whole step
    highest_rate: float = 0.01  # that a search tries with the CNN
    default_rate: float = 0.0  # of PyTorch, where none was chosen
    decay: str = ""  # of the weights, which PyTorch's defaults make

    def rate(self, model: str) -> float:
        """The learning rate that `auto` stands for."""
        return self.learning_rate.get(model, self.default_rate)

    @property
    def title(self) -> str:
        """The name as PyTorch writes it, with what is added to its plain step."""
        name = self.made_by.rpartition(".")[2] + "".join(f" with {n}" for n in self.options)
        return f"{name} ({self.decay})" if self.decay else name

    @property
    def searched(self) -> tuple[float, ...]:
        """The rates that a search tries: RATES_TRIED of them, as many for each optimizer."""
        first = RATES.index(self.highest_rate)
        return RATES[first : first + RATES_TRIED]


# The rates are chosen by the mean accuracy after the last epoch on held-out training images, three
# seeds, never on test images; docs/optimizers.md, "The default rates", has all numbers. The sgd of
# the MLP has the course template's rate. The default rates, decays and devices are those in
# https://docs.pytorch.org/docs/stable/optim.html, class by class.
OPTIMIZERS = {
    "sgd": Optimizer({"mlp": 0.1, "cnn": 0.1}, "torch.optim.SGD", fused=ON_ALL, highest_rate=0.1),
    "momentum": Optimizer(
        {"mlp": 0.1, "cnn": 0.01}, "torch.optim.SGD", ("momentum",), ON_ALL, highest_rate=0.03
    ),
    "adam": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.Adam", fused=ON_ALL),
    "adamw": Optimizer(
        {"mlp": 0.001, "cnn": 0.001}, "torch.optim.AdamW", fused=ON_ALL, decay="weight decay 0.01"
    ),
    "nadam": Optimizer({"mlp": 0.001, "cnn": 0.001}, "torch.optim.NAdam"),
    "adamax": Optimizer({"mlp": 0.001, "cnn": 0.003}, "torch.optim.Adamax"),
    "rmsprop": Optimizer({"mlp": 0.001, "cnn": 0.0003}, "torch.optim.RMSprop", highest_rate=0.003),
    # Its kernel for a GPU is new and untried here.
    "adagrad": Optimizer(
        {"mlp": 0.01, "cnn": 0.003}, "torch.optim.Adagrad", fused=("cpu",), highest_rate=0.03
    ),
    "radam": Optimizer({}, "torch.optim.RAdam", default_rate=0.001),
    "adadelta": Optimizer({}, "torch.optim.Adadelta", highest_rate=1.0, default_rate=1.0),
    "rprop": Optimizer({}, "torch.optim.Rprop", default_rate=0.01),
    # It averages weights after a million steps: until then it is sgd, so it gets the rates of sgd.
    "asgd": Optimizer(
        {}, "torch.optim.ASGD", highest_rate=0.1, default_rate=0.01, decay="lambd 0.0001"
    ),
    "adafactor": Optimizer({}, "torch.optim.Adafactor", highest_rate=0.03, default_rate=0.01),
}
REFUSED = {  # of torch.optim, with the reason
    "lbfgs": "LBFGS evaluates the loss several times in a step",
    "sparseadam": "SparseAdam takes sparse gradients alone, and those here are dense",
    "muon": "Muon takes matrices alone, not biases and kernels",
}
