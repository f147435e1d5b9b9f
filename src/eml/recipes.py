"""Config, the options, and one function for each exercise that turns options into Configs.

Every default is written here, once: in the fields of Options and its subclasses.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

from eml.data import SPECS
from eml.errors import UserError

AUTO = "auto"
ACTIVATIONS = ("sigmoid", "relu")
DEVICES = (AUTO, "cpu", "cuda")


class ConfigError(UserError):
    """A value that cannot be trained with; the message says what is valid."""


class Optimizer(NamedTuple):
    """An optimizer's class in `torch.optim`, and the learning rates that `auto` takes."""

    torch_class: str
    learning_rate: dict[str, float]  # by model


# Of the CNN, test accuracy on all images with seed 1. After four epochs of sgd: 0.544 at 0.1, 0.507
# at 0.03, 0.429 at 0.01. After two: momentum 0.536 at 0.01, 0.540 at 0.03 (the steadier is taken);
# rmsprop 0.543 at 0.001, 0.514 at 0.0003.
OPTIMIZERS = {
    "sgd": Optimizer("SGD", {"mlp": 0.1, "cnn": 0.1}),
    "momentum": Optimizer("SGD", {"mlp": 0.1, "cnn": 0.01}),
    "adam": Optimizer("Adam", {"mlp": 0.001, "cnn": 0.001}),
    "adamw": Optimizer("AdamW", {"mlp": 0.001, "cnn": 0.001}),
    "nadam": Optimizer("NAdam", {"mlp": 0.001, "cnn": 0.001}),
    "adamax": Optimizer("Adamax", {"mlp": 0.001, "cnn": 0.001}),
    "rmsprop": Optimizer("RMSprop", {"mlp": 0.001, "cnn": 0.001}),
    "adagrad": Optimizer("Adagrad", {"mlp": 0.01, "cnn": 0.01}),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user chooses for a training, with the help that the command line shows."""

    optimizer: Annotated[str, f"one of {', '.join(OPTIMIZERS)}"] = "sgd"
    lr: Annotated[str, "learning rate, or auto: one that works for model and optimizer"] = AUTO
    momentum: Annotated[float, "of optimizer=momentum alone, 0 to below 1"] = 0.9
    epochs: Annotated[int, "passes over the training images"] = 30
    batch_size: Annotated[int, "images in a step"] = 64
    seed: Annotated[int, "decides initial weights, order of the data, and the subset"] = 1
    subset: Annotated[int, "training images, class-balanced; a fifth as many to test; 0: all"] = 0
    device: Annotated[str, f"one of {', '.join(DEVICES)}"] = AUTO


@dataclass(frozen=True, kw_only=True)
class MLPOptions(Options):
    """Options of an MLP."""

    activation: Annotated[str, f"of the hidden layers, {' or '.join(ACTIVATIONS)}"] = "sigmoid"


@dataclass(frozen=True, kw_only=True)
class FirstLookOptions:
    """Options of the first look at every training."""

    epochs: Annotated[int, "passes over the training images"] = 2
    subset: Annotated[int, "training images, class-balanced; a fifth as many to test"] = 1000
    seed: Annotated[int, "decides initial weights, order of the data, and the subset"] = (
        Options.seed
    )
    device: Annotated[str, f"one of {', '.join(DEVICES)}"] = Options.device


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the result of one training, resolved. All of it is logged.

    Raises ConfigError, before anything is downloaded or trained, for a value that is not valid.
    """

    recipe: str
    dataset: str  # "mnist" or "cifar10"
    model: str  # "mlp" or "cnn"
    activation: str  # after the hidden layers
    optimizer: str
    learning_rate: float  # never "auto": `mlflow run` logs what was asked for as `lr`
    momentum: float  # of the optimizer "momentum" alone
    epochs: int
    batch_size: int
    seed: int
    subset: int  # training images; 0 takes all
    device_type: str  # "cpu" or "cuda", never "auto": that is logged as `device`
    dtype: str = "float32"

    def __post_init__(self):
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("activation", self.activation, ACTIVATIONS)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"lr={self.learning_rate}: give a number above 0, or {AUTO}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum={self.momentum}: give 0 or more, below 1")
        if self.momentum != Options.momentum and self.optimizer != "momentum":
            raise ConfigError(
                f"momentum={self.momentum} has no effect with optimizer={self.optimizer}: "
                "give optimizer=momentum"
            )
        if self.epochs < 1:
            raise ConfigError(f"epochs={self.epochs}: give 1 or more")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed={self.seed}: give 0 to {2**32 - 1}")
        available = SPECS[self.dataset].train_size
        if self.subset and not 50 <= self.subset <= available:  # 50: one test image of each class
            raise ConfigError(
                f"subset={self.subset}: give 50 to {available} training images of {self.dataset}, "
                "or 0 for all"
            )
        images = self.subset or available
        if not 1 <= self.batch_size <= images:
            raise ConfigError(
                f"batch_size={self.batch_size}: give 1 to {images}, the number of training images"
            )

    @property
    def run_name(self) -> str:
        """What tells this training from its neighbours, for people."""
        name = f"{self.recipe} {self.optimizer} lr={self.learning_rate:g} seed={self.seed}"
        return f"{name} subset={self.subset}" if self.subset else name


def _one_of(name: str, value: str, valid) -> None:
    if value not in valid:
        raise ConfigError(f"{name}={value}: give one of {', '.join(valid)}")


def resolve_learning_rate(lr: str, optimizer: str, model: str) -> float:
    """`lr` as a number; "auto" takes the rate that stands in OPTIMIZERS."""
    if lr == AUTO:
        _one_of("optimizer", optimizer, OPTIMIZERS)
        return OPTIMIZERS[optimizer].learning_rate[model]
    try:
        return float(lr)
    except ValueError:
        raise ConfigError(f"lr={lr}: give a number above 0, or {AUTO}") from None


def resolve_device(device: str) -> str:
    """`device` as "cpu" or "cuda"; "auto" takes the GPU where there is one."""
    _one_of("device", device, DEVICES)
    if device == "cpu":
        return "cpu"
    import torch  # takes seconds, which only a command that trains should wait for

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ConfigError("device=cuda: PyTorch finds no GPU here; give auto or cpu")
    return "cpu"


def _config(options: Options, *, recipe: str, dataset: str, model: str, activation: str) -> Config:
    config = Config(
        recipe=recipe,
        dataset=dataset,
        model=model,
        activation=activation,
        optimizer=options.optimizer,
        learning_rate=resolve_learning_rate(options.lr, options.optimizer, model),
        momentum=options.momentum,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        subset=options.subset,
        device_type="cpu",
    )
    # Last, because it imports torch: a mistyped value is refused at once.
    return replace(config, device_type=resolve_device(options.device))


def mlp_torch(options: MLPOptions) -> list[Config]:
    """The MLP on MNIST, with PyTorch's automatic differentiation.

    Question: how does the test accuracy of the 784-512-128-10 MLP develop, over epochs and over
    training time, when PyTorch derives the gradients?

    Fixed: MNIST scaled to mean 0 and standard deviation 1, cross-entropy averaged over the batch,
    one order of the data for a seed.

    Expected: at least 0.97 test accuracy after 30 epochs with the defaults, in about 1 to 2
    minutes on two CPU cores.

    Source: sheet 3, task 3.2.
    """
    return [
        _config(
            options,
            recipe="mlp_torch",
            dataset="mnist",
            model="mlp",
            activation=options.activation,
        )
    ]


def cifar_mlp(options: MLPOptions) -> list[Config]:
    """The MLP on CIFAR-10.

    Question: how far does the 3072-512-128-10 MLP get on colour photographs, beside the CNN?

    Fixed: CIFAR-10 scaled to [0, 1] only, cross-entropy averaged over the batch, one order of the
    data for a seed.

    Expected: about 0.5 test accuracy after 30 epochs, in about 3 to 5 minutes on two CPU cores.

    Source: sheet 3, task 3.3.
    """
    return [
        _config(
            options,
            recipe="cifar_mlp",
            dataset="cifar10",
            model="mlp",
            activation=options.activation,
        )
    ]


def cifar_cnn(options: Options) -> list[Config]:
    """The sheet's CNN on CIFAR-10.

    Question: how does the test accuracy of a small convolutional network develop, over epochs and
    over training time, with the chosen optimizer?

    Fixed: CIFAR-10 scaled to [0, 1] only, ReLU, cross-entropy averaged over the batch, one order
    of the data for a seed.

    Expected: at least 0.60 test accuracy after 3 epochs with optimizer=adam; a minute an epoch on
    two CPU cores, so about half an hour for 30.

    Source: sheet 3, tasks 3.3 and 3.4.
    """
    return [_config(options, recipe="cifar_cnn", dataset="cifar10", model="cnn", activation="relu")]


def main(options: FirstLookOptions) -> list[Config]:
    """A first look: each training on a small subset, for an epoch or two.

    Question: does everything work here, and what does a run look like in the MLflow UI?

    Expected: less than a minute on two CPU cores; accuracies far below those of full trainings.
    """
    shared = {
        "epochs": options.epochs,
        "subset": options.subset,
        "seed": options.seed,
        "device": options.device,
        "batch_size": min(Options.batch_size, options.subset or Options.batch_size),
    }
    mlp = MLPOptions(**shared)
    cnn = Options(optimizer="adam", **shared)
    return [*mlp_torch(mlp), *cifar_mlp(mlp), *cifar_cnn(cnn)]


RECIPES = {recipe.__name__: recipe for recipe in (main, mlp_torch, cifar_mlp, cifar_cnn)}
