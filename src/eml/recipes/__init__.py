"""One function for each exercise, which turns a user's options into Configs.

Every default is written here, once: in the fields of the options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

from eml.config import (
    ACTIVATIONS,
    AUTO,
    CONVOLUTIONS,
    DEVICES,
    DTYPES,
    INITIAL_WEIGHTS,
    MOMENTUM,
    OPTIMIZERS,
    PRECISIONS,
    Config,
    ConfigError,
    one_of,
    resolve_convolution,
    resolve_device,
    resolve_learning_rate,
)
from eml.data.specs import SPECS
from eml.launch_options import LaunchOptions, ResumeOptions

PRUNING = ("halving", "none")
# Options that several classes have, with their help.
Seed = Annotated[int, "decides initial weights, order of the data, and the subset"]
Device = Annotated[str, f"one of {', '.join(DEVICES)}"]
OptimizerName = Annotated[str, f"one of {', '.join(OPTIMIZERS)}"]
Precision = Annotated[str, f"one of {', '.join(PRECISIONS)}, but on the CPU fp32 alone"]
Convolution = Annotated[
    str, f"what computes the CNN's third: {', '.join(CONVOLUTIONS)}, or auto, the faster one"
]
Init = Annotated[str, f"initial weights, {' or '.join(INITIAL_WEIGHTS)}"]


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """What every training has, with the help that the command line shows."""

    epochs: Annotated[int, "passes over the training images"] = 30
    batch_size: Annotated[int, "images in a step"] = 64
    subset: Annotated[int, "training images, class-balanced; a fifth as many to test; 0: all"] = 0
    dtype: Annotated[str, f"to compute in, {' or '.join(DTYPES)}"] = "float32"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(SharedOptions):
    """Options of trainings with one seed."""

    seed: Seed = 1


@dataclass(frozen=True, kw_only=True)
class NumpyOptions(ResumeOptions, TrainingOptions):
    """Options of the NumPy MLP."""

    lr: Annotated[float, "learning rate"] = OPTIMIZERS["sgd"].learning_rate["mlp"]
    check: Annotated[bool, "compare the gradients with central differences first"] = False


@dataclass(frozen=True, kw_only=True)
class SweepOptions(LaunchOptions, SharedOptions):
    """Options of the sweep over learning rates."""

    lrs: Annotated[str, "at least five learning rates from 0.001 to 1"] = (
        "1.0,0.5,0.1,0.05,0.01,0.001"
    )
    seeds: Annotated[str, "a training for each of them at each rate"] = str(TrainingOptions.seed)


@dataclass(frozen=True, kw_only=True)
class DevicesOptions(LaunchOptions, TrainingOptions):
    """Options of the comparison of devices."""

    devices: Annotated[str, "one training on each; cpu for the CPU alone"] = "cpu,cuda"


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where a training in PyTorch computes, and how exactly."""

    device: Device = AUTO
    precision: Precision = "fp32"


@dataclass(frozen=True, kw_only=True)
class ConvolutionOptions(DeviceOptions):
    """Where and how the CNN computes."""

    convolution: Convolution = AUTO


@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions, ResumeOptions, TrainingOptions):
    """Options of a training in PyTorch."""

    optimizer: OptimizerName = "sgd"
    lr: Annotated[str, "learning rate, or auto: one that works for model and optimizer"] = AUTO
    momentum: Annotated[float, "of optimizer=momentum alone, 0 to below 1"] = MOMENTUM


@dataclass(frozen=True, kw_only=True)
class CNNOptions(ConvolutionOptions, Options):
    """Options of the CNN."""


@dataclass(frozen=True, kw_only=True)
class PairOptions(ConvolutionOptions, LaunchOptions, TrainingOptions):
    """Options of two networks that are trained alike."""

    optimizer: OptimizerName = Options.optimizer


@dataclass(frozen=True, kw_only=True)
class MLPOptions(Options):
    """Options of an MLP in PyTorch."""

    activation: Annotated[str, f"of the hidden layers, {' or '.join(ACTIVATIONS)}"] = "sigmoid"
    init: Init = "pytorch"


@dataclass(frozen=True, kw_only=True)
class TwinOptions(MLPOptions):
    """Options of the PyTorch MLP that is the NumPy MLP's twin."""

    init: Init = "template"


@dataclass(frozen=True, kw_only=True)
class SearchOptions(ConvolutionOptions, LaunchOptions, SharedOptions):
    """Options of the comparison of optimizers."""

    optimizers: Annotated[str, f"some of {', '.join(OPTIMIZERS)}"] = "sgd,momentum,adam,rmsprop"
    lrs: Annotated[str, "learning rates of the grid, two or more"] = "0.1,0.03,0.01,0.003,0.001"
    seeds: Annotated[str, "the grid is trained with the first, the winners with all"] = "1,2,3"
    prune: Annotated[str, f"stop weak trainings of the grid early: {' or '.join(PRUNING)}"] = (
        "halving"
    )
    extend: Annotated[int, "steps beyond the grid, for an optimizer that is best at its edge"] = 2
    budget_minutes: Annotated[float, "what does not fit in is left out; 0: no limit"] = 0.0


@dataclass(frozen=True, kw_only=True)
class FirstLookOptions(DeviceOptions, LaunchOptions):
    """Options of the first look at every training."""

    epochs: Annotated[int, "passes over the training images"] = 2
    subset: Annotated[int, "training images, class-balanced; a fifth as many to test"] = 1000
    seed: Seed = TrainingOptions.seed


def mlp_numpy(options: NumpyOptions) -> list[Config]:
    """The MLP on MNIST in NumPy, every derivative by hand.

    Question: how do train and test loss and the test accuracy of the 784-512-128-10 MLP develop
    over the epochs?

    Fixed: MNIST scaled to mean 0 and standard deviation 1, sigmoid, cross-entropy averaged over the
    batch, plain gradient descent, the template's initial weights, one order of the data for a seed.

    Expected: at least 0.978 test accuracy after 30 epochs with the defaults, in 30 to 60 seconds
    on two CPU cores.

    Source: sheet 2, task 2.2 (2024: 2.1).
    """
    return [
        Config(
            recipe="mlp_numpy",
            framework="numpy",
            dataset="mnist",
            model="mlp",
            activation="sigmoid",
            init="template",
            optimizer="sgd",
            learning_rate=options.lr,
            momentum=MOMENTUM,
            seed=options.seed,
            validation=0,
            device_type="cpu",
            precision="fp32",
            convolution_type="none",
            **_shared(options),
        )
    ]


def lr_sweep(options: SweepOptions) -> list[Config]:
    """The NumPy MLP on MNIST at several learning rates.

    Question: how does the learning rate change the way the test accuracy develops?

    Varies: the learning rate, and the seed where several are given. Fixed: all else, as in
    mlp_numpy.

    Expected: after 30 epochs 0.985 test accuracy at 1, 0.982 at 0.1, 0.937 at 0.01 and 0.851 at
    0.001; 4 to 6 minutes on two CPU cores for six rates and one seed.

    Source: sheet 2, task 2.2 (2024: 2.1).
    """
    rates = _numbers("lrs", options.lrs, float)
    if len(rates) < 5 or not all(0.001 <= rate <= 1 for rate in rates):
        raise ConfigError(f"lrs={options.lrs}: give at least five learning rates from 0.001 to 1")
    seeds = seeds_of(options)
    return [
        config
        for seed in seeds
        for rate in rates
        for config in mlp_numpy(NumpyOptions(lr=rate, seed=seed, **_shared(options)))
    ]


def mlp_torch(options: TwinOptions) -> list[Config]:
    """The MLP on MNIST, with PyTorch's automatic differentiation.

    Question: how does the test accuracy of the 784-512-128-10 MLP develop, over epochs and over
    training time, when PyTorch derives the gradients?

    Fixed: as in mlp_numpy, down to initial weights and order, so the two curves are one experiment.

    Expected: at least 0.978 test accuracy after 30 epochs with the defaults, in about a minute on
    two CPU cores.

    Source: sheet 3, task 3.2.
    """
    return [_torch_config(options, recipe="mlp_torch", dataset="mnist", model="mlp")]


def cpu_vs_gpu(options: DevicesOptions) -> list[Config]:
    """The PyTorch MLP on MNIST on the CPU and on the GPU.

    Question: how does the test accuracy develop over training time on each?

    Varies: the device. Fixed: all else, as in mlp_torch with its defaults; the same weights and
    order of the data, so over the epochs both curves are one.

    Expected: curves that coincide over epochs; about a minute on two CPU cores, less on a GPU.

    Source: sheet 3, task 3.2.
    """
    devices = _listed("devices", options.devices)
    (config,) = mlp_torch(TwinOptions(device="cpu", seed=options.seed, **_shared(options)))
    if unknown := [device for device in devices if device not in ("cpu", "cuda")]:
        raise ConfigError(f"devices={options.devices}: no {unknown[0]}, give cpu, cuda or both")
    if "cuda" in devices and _device_of(options, AUTO) == "cpu":
        why = (
            "slurm_gres asks for no GPU"
            if options.launcher == "slurm"
            else ("PyTorch finds no GPU here")
        )
        raise ConfigError(f"devices={options.devices}: {why}; give cpu for the CPU alone")
    return [replace(config, device_type=device) for device in devices]


def cifar_mlp(options: MLPOptions) -> list[Config]:
    """The MLP on CIFAR-10.

    Question: how far does the 3072-512-128-10 MLP get on colour photographs, beside the CNN?

    Fixed: CIFAR-10 scaled to [0, 1] only, cross-entropy averaged over the batch, one order of the
    data for a seed.

    Expected: 0.40 to 0.47 test accuracy in the last ten of 30 epochs, which swings from epoch to
    epoch, in about a minute and a half on two CPU cores.

    Source: sheet 3, task 3.3.
    """
    return [_torch_config(options, recipe="cifar_mlp", dataset="cifar10", model="mlp")]


def cifar_cnn(options: CNNOptions) -> list[Config]:
    """The sheet's CNN on CIFAR-10.

    Question: how does the test accuracy of a small convolutional network develop, over epochs and
    over training time, with the chosen optimizer?

    Fixed: CIFAR-10 scaled to [0, 1] only, ReLU, PyTorch's own initial weights, cross-entropy
    averaged over the batch, one order of the data for a seed.

    Expected: with optimizer=adam at least 0.60 test accuracy after 3 epochs and the best, about
    0.67, before the tenth; then it overfits. Half a minute an epoch on two CPU cores, so about a
    quarter of an hour for 30.

    Source: sheet 3, tasks 3.3 and 3.4.
    """
    return [_torch_config(options, recipe="cifar_cnn", dataset="cifar10", model="cnn")]


def mlp_vs_cnn(options: PairOptions) -> list[Config]:
    """The MLP and the CNN on CIFAR-10.

    Question: how do the test accuracies of the two develop, over epochs and over training time?

    Varies: the network, and with it activation and the learning rate that works for it. Fixed: all
    else.

    Expected: the CNN is ahead after every epoch, 0.63 to 0.41 after 30, but behind in the first
    half minute: an epoch of it takes about ten times as long. 15 to 30 minutes on two CPU cores.

    Source: sheet 3, task 3.3.
    """
    shared = _shared(options) | {
        "seed": options.seed,
        "optimizer": options.optimizer,
        "device": "cpu",
    }
    pair = [*cifar_mlp(MLPOptions(**shared)), *cifar_cnn(CNNOptions(**shared))]
    return _as_asked(pair, options)


def optimizers(options: SearchOptions) -> list[Config]:
    """Optimizers on the CNN and CIFAR-10, each at the learning rate that suits it best.

    Question: how does the test accuracy develop, over epochs and over training time, with each?

    Varies: the optimizer, its learning rate, and the seed. Fixed: all else, as in cifar_cnn.

    Protocol, after DeepOBS (Schneider et al. 2019) and AlgoPerf (Dahl et al. 2023): the grid of
    optimizers and rates is trained with one seed, a tenth of the training images held out, class by
    class, for validation. An optimizer's rate is the one with the highest validation accuracy of
    any epoch; a best rate at the grid's edge extends the grid by a step. The winners are trained on
    all training images with all seeds, never stopped early, and only these see the test images. A
    diverged training is a failure of its rate.

    Expected: by its own estimate about 5 hours on two CPU cores, 8 if nothing is pruned and every
    grid is extended; not run in full so far.

    Source: sheet 3, task 3.4.
    """
    names = _listed("optimizers", options.optimizers)
    rates = _numbers("lrs", options.lrs, float)
    if len(rates) < 2:
        raise ConfigError(f"lrs={options.lrs}: give at least two learning rates")
    one_of("prune", options.prune, PRUNING)
    if options.extend < 0:
        raise ConfigError(f"extend={options.extend}: give 0 or more")
    if not options.budget_minutes >= 0:
        raise ConfigError(f"budget_minutes={options.budget_minutes}: give 0 or more")
    seed, *_ = seeds_of(options)
    if options.subset and options.subset < 100:  # of a tenth of them, one of each class
        raise ConfigError(f"subset={options.subset}: give 100 or more, or 0 for all")
    images = options.subset or SPECS["cifar10"].train_size
    shared = _shared(options) | {"seed": seed}
    grid = [
        config
        for name in names
        for rate in rates
        for config in cifar_cnn(CNNOptions(optimizer=name, lr=str(rate), device="cpu", **shared))
    ]
    grid = [replace(config, validation=images // 10) for config in grid]
    return _as_asked(grid, options)


def seeds_of(options: SearchOptions | SweepOptions) -> list[int]:
    """The seeds of the trainings."""
    return _numbers("seeds", options.seeds, int)


def main(options: FirstLookOptions) -> list[Config]:
    """A first look: each training on a small subset, for an epoch or two.

    Question: does everything work here, and what does a run look like in the MLflow UI?

    Expected: less than a minute on two CPU cores; accuracies far below those of full trainings.
    """
    shared = {
        "epochs": options.epochs,
        "subset": options.subset,
        "seed": options.seed,
        "batch_size": min(Options.batch_size, options.subset or Options.batch_size),
    }
    in_torch = [
        *mlp_torch(TwinOptions(device="cpu", **shared)),
        *cifar_mlp(MLPOptions(device="cpu", **shared)),
        *cifar_cnn(CNNOptions(device="cpu", optimizer="adam", **shared)),
    ]
    return [*mlp_numpy(NumpyOptions(**shared)), *_as_asked(in_torch, options)]


RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        main,
        mlp_numpy,
        lr_sweep,
        mlp_torch,
        cpu_vs_gpu,
        cifar_mlp,
        cifar_cnn,
        mlp_vs_cnn,
        optimizers,
    )
}
# They take trainings from the store that others have made. Not those that compare times: these
# belong to one machine and one hour.
REUSING = {"lr_sweep", "optimizers"}


def _shared(options: SharedOptions) -> dict[str, int | str]:
    """What several trainings have in common: options and fields of Config alike."""
    return {field.name: getattr(options, field.name) for field in fields(SharedOptions)}


def _torch_config(options: Options, *, recipe: str, dataset: str, model: str) -> Config:
    is_mlp = isinstance(options, MLPOptions)
    config = Config(
        recipe=recipe,
        framework="torch",
        dataset=dataset,
        model=model,
        activation=options.activation if is_mlp else "relu",
        init=options.init if is_mlp else "pytorch",
        optimizer=options.optimizer,
        learning_rate=resolve_learning_rate(options.lr, options.optimizer, model),
        momentum=options.momentum,
        seed=options.seed,
        validation=0,
        device_type="cpu",
        precision="fp32",
        convolution_type=resolve_convolution(AUTO, model, "cpu"),
        **_shared(options),
    )
    return _as_asked([config], options)[0]


def _as_asked(configs: Sequence[Config], options: DeviceOptions) -> list[Config]:
    """The Configs where and how the options say."""
    convolution = options.convolution if isinstance(options, ConvolutionOptions) else AUTO
    # A device is found by importing torch: before that, what is mistyped is refused.
    one_of("precision", options.precision, PRECISIONS)
    resolve_convolution(convolution, "cnn", "cpu")
    device = _device_of(options, options.device)
    return [
        replace(
            config,
            device_type=device,
            precision=options.precision,
            convolution_type=resolve_convolution(convolution, config.model, device),
        )
        for config in configs
    ]


def _device_of(options: DeviceOptions | DevicesOptions, device: str) -> str:
    """ "cpu" or "cuda". With launcher=slurm those of the jobs count, not those of this machine."""
    if not (isinstance(options, LaunchOptions) and options.launcher == "slurm"):
        return resolve_device(device)
    one_of("device", device, DEVICES)
    if device == AUTO:
        return "cuda" if options.slurm_settings().has_gpu else "cpu"
    return device


def _listed(name: str, text: str) -> list[str]:
    """The parts of "a,b,c", each once; at least one."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ConfigError(f"{name}={text}: give values separated by commas")
    if len(set(parts)) < len(parts):
        raise ConfigError(f"{name}={text}: give each value once")
    return parts


def _numbers(name: str, text: str, number: type) -> list:
    """The numbers of "1,2,3", each once; at least one."""
    try:
        numbers = [number(part) for part in _listed(name, text)]
    except ValueError:
        kind = "whole numbers" if number is int else "numbers"
        raise ConfigError(f"{name}={text}: give {kind} separated by commas") from None
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{name}={text}: give each value once")
    return numbers
