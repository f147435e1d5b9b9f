"""Config: everything that decides the result of one training, and its valid values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from eml.data.specs import SPECS
from eml.errors import UserError
from eml.models.optimizers import OPTIMIZERS

# What the option `stores` of several commands is.
STORES = "stores of others, read too: mlflow.db files or addresses of servers, separated by commas"
AUTO = "auto"
FRAMEWORKS = ("numpy", "torch")
MODELS = ("mlp", "cnn")
ACTIVATIONS = ("sigmoid", "relu")
DEVICES = (AUTO, "cpu", "cuda")
DTYPES = ("float32", "float64")
PRECISIONS = ("fp32", "tf32", "bf16")
INITIAL_WEIGHTS = ("template", "pytorch")
LEARNING_RATES = 1e-100, 1e100  # no axis and no product of two of them overflows


class ConfigError(UserError):
    """An option has an invalid value; the message lists the valid ones."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the result of one training. All fields are logged as parameters.

    Raises ConfigError for an invalid value, before anything is downloaded or trained.
    """

    recipe: str
    framework: str  # "numpy" or "torch"
    dataset: str  # "mnist" or "cifar10"
    model: str  # "mlp" or "cnn"
    activation: str  # after the hidden layers
    init: str  # initial weights: "template" (the NumPy MLP's) or "pytorch" (PyTorch's own)
    optimizer: str
    learning_rate: float  # never "auto": `mlflow run` logs the given option as `lr`
    epochs: int
    batch_size: int
    seed: int
    subset: int  # training images; 0 takes all
    device_type: str  # "cpu" or "cuda", never "auto": the option is logged as `device`
    # A field that was added later has a default: the value of older runs (from_stored).
    momentum: float = 0.9  # only for the optimizer "momentum"
    validation: int = 0  # training images held out and evaluated on in place of the test images
    dtype: str = "float32"
    precision: str = "fp32"  # of products and convolutions: "fp32" (all of dtype), "tf32" or "bf16"

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> "Config":
        """The Config that any version of eml has stored, each field as a value or as text.

        A missing field takes its default, and a field that no longer exists is ignored. Raises
        ConfigError if a field without default is missing, or for invalid values.
        """
        for field in fields(cls):
            if field.default is MISSING and field.name not in values:
                raise ConfigError(f"no training with a {field.name}")
        kinds = get_type_hints(cls)
        try:
            return cls(**{name: kinds[name](values[name]) for name in kinds if name in values})
        except (ConfigError, KeyError, ValueError, OverflowError) as error:
            raise ConfigError(f"no Config of this version of eml ({error})") from error

    def __post_init__(self):
        one_of("framework", self.framework, FRAMEWORKS)
        one_of("dataset", self.dataset, SPECS)
        one_of("model", self.model, MODELS)
        one_of("device_type", self.device_type, DEVICES[1:])
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("init", self.init, INITIAL_WEIGHTS)
        one_of("dtype", self.dtype, DTYPES)
        one_of("precision", self.precision, PRECISIONS)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"lr={self.learning_rate:g}: give a number above 0")
        lowest, highest = LEARNING_RATES
        if not lowest <= self.learning_rate <= highest:
            raise ConfigError(f"lr={self.learning_rate:g}: give {lowest:g} to {highest:g}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum={self.momentum}: give 0 or more, below 1")
        if self.momentum != Config.momentum and self.optimizer != "momentum":
            raise ConfigError(
                f"momentum={self.momentum} has no effect with optimizer={self.optimizer}: "
                "give optimizer=momentum"
            )
        if self.precision != "fp32" and self.dtype != "float32":
            raise ConfigError(f"precision={self.precision} needs dtype=float32: give fp32")
        if self.precision == "tf32" and self.device_type != "cuda":
            raise ConfigError("precision=tf32 needs a GPU: give fp32")
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
        if self.validation and not 10 <= self.validation <= images // 2:
            raise ConfigError(
                f"validation={self.validation}: give 10 to {images // 2}, half of the training "
                "images, or 0 for none"
            )
        images -= self.validation
        if not 1 <= self.batch_size <= images:
            raise ConfigError(
                f"batch_size={self.batch_size}: give 1 to {images}, the number of training images"
            )

    @property
    def evaluated(self) -> str:
        """The split that is evaluated after each epoch."""
        return "validation" if self.validation else "test"

    @property
    def run_name(self) -> str:
        """The run's name. MLflow truncates it, so the fields that vary most come first."""
        name = f"{self.optimizer} lr={self.learning_rate:g} seed={self.seed} {self.recipe}"
        if self.device_type == "cuda":
            name += " GPU"
        name += f" epochs={self.epochs}"
        if self.subset:
            name += f" subset={self.subset}"
        return f"{name} validation={self.validation}" if self.validation else name


def one_of(name: str, value: str, valid: Iterable[str]) -> None:
    """Raise ConfigError, with the valid values, if `value` is not one of them."""
    if value not in valid:
        raise ConfigError(f"{name}={value}: give one of {', '.join(valid)}")


def resolve_learning_rate(lr: str, optimizer: str, model: str) -> float:
    """`lr` as a number; "auto" is the rate in OPTIMIZERS."""
    if lr == AUTO:
        one_of("optimizer", optimizer, OPTIMIZERS)
        return OPTIMIZERS[optimizer].learning_rate[model]
    try:
        return float(lr)
    except ValueError:
        raise ConfigError(f"lr={lr}: give a number above 0, or {AUTO}") from None


def resolve_device(device: str) -> str:
    """`device` as "cpu" or "cuda"; "auto" is the GPU if this machine has one."""
    one_of("device", device, DEVICES)
    if device == "cpu":
        return "cpu"
    import torch  # takes seconds; only a training needs it

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ConfigError("device=cuda: PyTorch finds no GPU here; give auto or cpu")
    return "cpu"
