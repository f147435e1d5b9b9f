"""Recipe, one exercise of the course, and the options that several recipes share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from eml.config import AUTO, DEVICES, VALUES, Config, ConfigError, Options, one_of, resolve_number
from eml.models.own_code import read, sha256_of

Seed = Annotated[int, "decides initial weights, order of the data, and the subset"]
OptimizerName = Annotated[str, f"one of {', '.join(VALUES['optimizer'])}, in any case"]
Activation = Annotated[str, f"of the hidden layers, {' or '.join(VALUES['activation'])}"]
Code = Annotated[str, "your own network: a Python file, checked before it trains (`eml new`)"]
Check = Annotated[str, "true: compare NumPy's gradients with central differences; only: check code"]
Value = TypeVar("Value", str, int, float)
FindDevice = Callable[[str], str]  # "auto", "cpu" or "cuda" -> "cpu" or "cuda"
# Names of figures (analysis/figures.py).
ONE_TRAINING = ("loss_over_epochs", "test_accuracy_over_epochs")
OVER_EPOCHS = ("test_accuracy_over_epochs",)
OVER_BOTH = ("test_accuracy_over_epochs", "test_accuracy_over_train_seconds")


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(Options):
    """Base class of the options of all recipes."""

    # Options that do not count for the plan digest: they change no result, or Configs hold them.
    how: ClassVar[tuple[str, ...]] = ("device", "precision", "check", "code")

    def __post_init__(self) -> None:
        for name in ("optimizer", "optimizers"):  # PyTorch writes Adam, a Config has adam
            if hasattr(self, name):
                object.__setattr__(self, name, getattr(self, name).lower())
        super().__post_init__()

    def placed(self, configs: Sequence[Config], find_device: FindDevice) -> list[Config]:
        """The Configs for the device and the precision that the options ask for.

        find_device: the launcher's. Raises ConfigError if there is no such device.
        """
        return list(configs)


@dataclass(frozen=True, kw_only=True)
class SharedOptions(RecipeOptions):
    """Options of all trainings; they are fields of Config too."""

    epochs: Annotated[int, "passes over the training images"] = 30
    batch_size: Annotated[int, "images in a step"] = 64
    subset: Annotated[int, "training images, class-balanced; a fifth as many to test; 0: all"] = 0
    dtype: Annotated[str, f"to compute in, {' or '.join(VALUES['dtype'])}"] = Config.dtype
    code: Code = ""
    check: Check = "false"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("check", self.check, ("false", "true", "only"))
        if self.check == "only" and not self.code:
            raise ConfigError("check=only has no effect without code: give a file as code")
        if self.code:
            object.__setattr__(self, "code", str(Path(self.code).expanduser().absolute()))

    @property
    def shared(self) -> dict[str, Any]:
        """The values of these options by name."""
        return {field.name: getattr(self, field.name) for field in fields(SharedOptions)}

    @property
    def of_config(self) -> dict[str, Any]:
        """The fields of Config that follow from these options. Reads the file of `code`."""
        values = {k: value for k, value in self.shared.items() if k not in ("code", "check")}
        return values | {"code_sha256": sha256_of(read(self.code)) if self.code else ""}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(SharedOptions):
    """Options of trainings with one seed."""

    seed: Seed = 1


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(RecipeOptions):
    """Device and precision of trainings in PyTorch."""

    device: Annotated[str, f"one of {', '.join(DEVICES)}"] = AUTO
    precision: Annotated[
        str, f"{', '.join(VALUES['precision'])}; on a CPU fp32, and bf16 if it has it"
    ] = Config.precision

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, VALUES["precision"])

    def placed(self, configs: Sequence[Config], find_device: FindDevice) -> list[Config]:
        device = find_device(self.device)
        return [
            replace(config, device_type=device, precision=self.precision)
            if config.framework == "torch"
            else config
            for config in configs
        ]


@dataclass(frozen=True, kw_only=True)
class TorchOptions(DeviceOptions, TrainingOptions):
    """Options of one training in PyTorch."""

    effects = ((("momentum",), "optimizer", ("momentum",)),)

    optimizer: OptimizerName = "sgd"
    lr: Annotated[str, "learning rate, or auto: one chosen for the model, or PyTorch's default"] = (
        AUTO
    )
    momentum: Annotated[str, f"of optimizer=momentum alone; auto: {Config.momentum}"] = AUTO


@dataclass(frozen=True, kw_only=True)
class MLPOptions(TorchOptions):
    """Options of one MLP in PyTorch."""

    activation: Activation = "sigmoid"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One exercise: its options, the trainings that follow from them, and their figures."""

    name: str  # of the entry point and of the command
    about: str  # question, what varies, what is fixed, expected result, source
    options: type[RecipeOptions]
    configs: Callable[..., list[Config]]  # from options to Configs (for the CPU)
    figures: tuple[str, ...] = ONE_TRAINING  # names
    # Whether a finished training of another command counts as done. False if times are compared,
    # because these must come from one machine in one hour.
    reuses: bool = False
    exercise: str = ""  # of the sheets, in the figures' titles; "" for the first look
    varies: str = ""  # the field of Config that is compared
    rates: tuple[float, float] = (0.0, float("inf"))  # the lowest and the highest learning rate

    @property
    def compares_seconds(self) -> bool:
        """Whether its figures compare the training seconds of several trainings."""
        return any("seconds" in figure for figure in self.figures)


def torch_config(
    options: TorchOptions, recipe: str, dataset: str, model: str, activation: str, init: str
) -> Config:
    """The Config of a training in PyTorch, on the CPU."""
    return Config(
        recipe=recipe,
        framework="torch",
        dataset=dataset,
        model=model,
        activation=activation,
        init=init,
        optimizer=options.optimizer,
        learning_rate=resolve_number("lr", options.lr, options.optimizer, model),
        momentum=resolve_number("momentum", options.momentum, options.optimizer, model),
        seed=options.seed,
        device_type="cpu",
        **options.of_config,
    )


def listed(name: str, text: str, kind: Callable[[str], Value]) -> list[Value]:
    """The values of "a,b,c", at least one, each once. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    try:
        values = [kind(part) for part in parts if part]
    except ValueError:
        values = []
    if len(values) < len(parts):
        words = "whole numbers" if kind is int else "numbers" if kind is float else "values"
        raise ConfigError(f"{name}={text}: give {words} separated by commas")
    if len(set(values)) < len(values):
        raise ConfigError(f"{name}={text}: give each value once")
    return values
