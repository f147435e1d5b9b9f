"""Config: everything that decides the result of one training, and its valid values."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, get_type_hints

from eml.data.specs import SPECS
from eml.errors import UserError
from eml.models.optimizers import OPTIMIZERS, REFUSED

# What the option `stores` of several commands is.
STORES = "stores of others, read too: mlflow.db files or addresses of servers, separated by commas"
AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda")
VALUES: dict[str, tuple[str, ...]] = {  # of the fields of Config that are names
    "framework": ("numpy", "torch"),
    "dataset": tuple(SPECS),
    "model": ("mlp", "cnn"),
    "activation": ("sigmoid", "relu"),
    "init": ("template", "pytorch"),
    "optimizer": tuple(OPTIMIZERS),
    "dtype": ("float32", "float64"),
    "precision": ("fp32", "tf32", "bf16"),
    "device_type": DEVICES[1:],
}
# Some options, another one, and the values of this one with which the options have an effect.
Effects = Iterable[tuple[tuple[str, ...], str, tuple[str, ...]]]


class ConfigError(UserError):
    """An option has an invalid value; the message lists the valid ones."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options; one without effect is refused, unless it has its default, "auto" or ""."""

    effects: ClassVar[Effects] = ()

    def __post_init__(self) -> None:
        for names, other, values in self.effects:
            chosen = getattr(self, other)
            for name in names if chosen not in values else ():
                if (value := getattr(self, name)) != getattr(type(self), name):
                    one_of(other, chosen, VALUES.get(other, [chosen]))
                    remedy = f"give {other}={values[0]}" if values[0] else "leave out one of them"
                    raise no_effect(name, value, f"{other}={chosen}", remedy)


def no_effect(name: str, value: object, beside: str, remedy: str = "leave it out") -> ConfigError:
    """The error of an option whose value would change nothing."""
    text = "true" if value is True else value
    return ConfigError(f"{name}={text} has no effect with {beside}: {remedy}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the result of one training. All fields are logged as parameters.

    Raises ConfigError for an invalid value, before anything is downloaded or trained.
    """

    recipe: str
    framework: str  # "numpy" or "torch"
    dataset: str  # a name in SPECS
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
    code_sha256: str = ""  # of the user's own code (own_code.py); "" with eml's

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> "Config":
        """The Config that any version of eml has stored, each field as a value or as text.

        A missing field takes its default, `recipe` "", and a field that no longer exists is
        ignored. Raises ConfigError, with all fields that are missing, or for invalid values.
        """
        # `mlflow run` logs an option as it was typed: "auto" stands for the default.
        values = {"recipe": ""} | {name: v for name, v in values.items() if v != AUTO}
        if "optimizer" in values:
            values["optimizer"] = str(values["optimizer"]).lower()
        needed = (field.name for field in fields(cls) if field.default is MISSING)
        if missing := [name for name in needed if name not in values]:
            raise ConfigError(f"parameters missing: {', '.join(missing)} (docs/comparing.md)")
        kinds = get_type_hints(cls)
        try:
            return cls(**{name: kinds[name](values[name]) for name in kinds if name in values})
        except (ConfigError, KeyError, ValueError, OverflowError) as error:
            raise ConfigError(f"no Config of this version of eml ({error})") from error

    def __post_init__(self) -> None:
        for name, valid in VALUES.items():
            one_of(name, getattr(self, name), valid)
        rate = self.learning_rate
        _require(0 < rate < math.inf, f"lr={rate:g}: give a number above 0")
        _require(0 <= self.momentum < 1, f"momentum={self.momentum}: give 0 or more, below 1")
        if self.momentum != Config.momentum and self.optimizer != "momentum":
            raise no_effect("momentum", self.momentum, f"optimizer={self.optimizer}")
        _require(
            self.precision == "fp32" or self.dtype == "float32",
            f"precision={self.precision} needs dtype=float32: give fp32",
        )
        on_gpu = self.device_type == "cuda"
        _require(self.precision != "tf32" or on_gpu, "precision=tf32 needs a GPU: give fp32")
        _require(self.epochs >= 1, f"epochs={self.epochs}: give 1 or more")
        _require(0 <= self.seed < 2**32, f"seed={self.seed}: give 0 to {2**32 - 1}")
        is_sha256 = re.fullmatch("|[0-9a-f]{64}", self.code_sha256)
        _require(bool(is_sha256), f"code_sha256={self.code_sha256}: give 64 digits")
        self._require_enough_images()

    def _require_enough_images(self) -> None:
        """Raise ConfigError unless there are images for the subset, validation and a batch."""
        available = SPECS[self.dataset].train_size
        _require(
            self.subset == 0 or 50 <= self.subset <= available,  # 50: one test image of each class
            f"subset={self.subset}: give 50 to {available} training images of {self.dataset}, "
            "or 0 for all",
        )
        images = self.subset or available
        _require(
            self.validation == 0 or 10 <= self.validation <= images // 2,
            f"validation={self.validation}: give 10 to {images // 2}, half of the training "
            "images, or 0 for none",
        )
        trained = images - self.validation
        _require(
            1 <= self.batch_size <= trained,
            f"batch_size={self.batch_size}: give 1 to {trained}, the number of training images",
        )

    @property
    def evaluated(self) -> str:
        """The split that is evaluated after each epoch."""
        return "validation" if self.validation else "test"

    @property
    def run_name(self) -> str:
        """The run's name. MLflow truncates it, so the fields that vary most come first."""
        name = f"{self.model} {self.optimizer} lr={self.learning_rate:g} seed={self.seed}"
        name += f" {self.recipe}{' GPU' if self.device_type == 'cuda' else ''} epochs={self.epochs}"
        name += f" subset={self.subset}" if self.subset else ""
        name += f" validation={self.validation}" if self.validation else ""
        name += f" code={self.code_sha256[:6]}" if self.code_sha256 else ""
        return name + (f" momentum={self.momentum:g}" if self.momentum != Config.momentum else "")


def _require(valid: bool, message: str) -> None:
    if not valid:
        raise ConfigError(message)


def one_of(name: str, value: str, valid: Iterable[str]) -> None:
    """Raise ConfigError, with the valid values, if `value` is not one of them."""
    if value not in (valid := list(valid)):
        remedy = f"give one of {', '.join(valid)}" if valid else "there is none here"
        reason = f"{REFUSED[value]}; " if name == "optimizer" and value in REFUSED else ""
        raise ConfigError(f"{name}={value}: {reason}{remedy}")


def resolve_number(name: str, text: str, optimizer: str, model: str) -> float:
    """`lr` or `momentum` as a number; "auto" is the rate in OPTIMIZERS, or Config's momentum."""
    one_of("optimizer", optimizer, OPTIMIZERS)
    auto = OPTIMIZERS[optimizer].rate(model) if name == "lr" else Config.momentum
    try:
        return auto if text == AUTO else float(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: give a number, or {AUTO}") from None


def resolve_device(device: str) -> str:
    """`device` as "cpu" or "cuda"; "auto" is the GPU if PyTorch can use one here."""
    one_of("device", device, DEVICES)
    from eml.machine import gpu_obstacle, print_once  # needs packages that a Config does not

    obstacle = "" if device == "cpu" else gpu_obstacle()
    if obstacle is None:
        return "cuda"
    if device == "cuda":
        raise ConfigError(f"device=cuda: {obstacle or 'PyTorch finds no GPU'}; give auto or cpu")
    if obstacle:
        print_once(f"device=cpu, because {obstacle}")
    return "cpu"
