"""Which Configs the options become, and which values are refused."""

from dataclasses import replace

import pytest

from eml.config import OPTIMIZERS, ConfigError, resolve_convolution
from eml.recipes import (
    RECIPES,
    CNNOptions,
    DevicesOptions,
    FirstLookOptions,
    MLPOptions,
    NumpyOptions,
    PairOptions,
    SearchOptions,
    SweepOptions,
    TwinOptions,
    cifar_cnn,
    cifar_mlp,
    cpu_vs_gpu,
    lr_sweep,
    main,
    mlp_numpy,
    mlp_torch,
    mlp_vs_cnn,
    optimizers,
)


def test_defaults_are_those_of_the_course():
    (config,) = mlp_torch(TwinOptions(device="cpu"))
    assert (config.dataset, config.model, config.activation) == ("mnist", "mlp", "sigmoid")
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.1)
    assert (config.epochs, config.batch_size, config.seed, config.subset) == (30, 64, 1, 0)


def test_cnn_has_relu_on_cifar10():
    (config,) = cifar_cnn(CNNOptions(device="cpu"))
    assert (config.dataset, config.model, config.activation) == ("cifar10", "cnn", "relu")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_auto_is_resolved_for_every_optimizer(optimizer):
    for recipe, options in ((cifar_mlp, MLPOptions), (cifar_cnn, CNNOptions)):
        (config,) = recipe(options(optimizer=optimizer, device="cpu"))
        assert 0.001 <= config.learning_rate <= 0.1


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("0.10", 0.1), ("1", 1.0)])
def test_learning_rate_is_read_as_a_number(text, number):
    (config,) = cifar_cnn(CNNOptions(lr=text, device="cpu"))
    assert config.learning_rate == number


def test_auto_device_is_resolved():
    (config,) = cifar_cnn(CNNOptions())
    assert config.device_type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "addam"}, "optimizer=addam: give one of sgd, momentum, adam"),
        ({"optimizer": "addam", "lr": "0.1"}, "optimizer=addam: give one of sgd"),
        ({"activation": "tanh"}, "activation=tanh: give one of sigmoid, relu"),
        ({"device": "tpu"}, "device=tpu: give one of auto, cpu, cuda"),
        ({"lr": "-0.1"}, "lr=-0.1: give a number above 0"),
        ({"lr": "0"}, "lr=0: give a number above 0"),
        ({"lr": "nan"}, "lr=nan: give a number above 0"),
        ({"lr": "inf"}, "lr=inf: give a number above 0"),
        ({"lr": "fast"}, "lr=fast: give a number above 0, or auto"),
        ({"momentum": 1.0, "optimizer": "momentum"}, "momentum=1.0: give 0 or more, below 1"),
        ({"momentum": float("nan")}, "momentum=nan: give 0 or more, below 1"),
        ({"momentum": 0.5}, "momentum=0.5 has no effect with optimizer=sgd"),
        ({"epochs": 0}, "epochs=0: give 1 or more"),
        ({"batch_size": 0}, "batch_size=0: give 1 to 60000"),
        ({"batch_size": 60001}, "batch_size=60001: give 1 to 60000"),
        ({"batch_size": 101, "subset": 100}, "batch_size=101: give 1 to 100"),
        ({"seed": -1}, "seed=-1: give 0 to 4294967295"),
        ({"subset": 60001}, "subset=60001: give 50 to 60000"),
        ({"subset": 49}, "subset=49: give 50 to 60000"),
    ],
)
def test_bad_values_are_refused_with_the_valid_ones(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        mlp_torch(TwinOptions(**({"device": "cpu"} | options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lrs": "1,0.5,0.1,0.05"}, "lrs=1,0.5,0.1,0.05: give at least five learning rates from"),
        ({"lrs": "2,1,0.5,0.1,0.05"}, "lrs=2,1,0.5,0.1,0.05: give at least five"),
        ({"lrs": "1,0.5,0.1,0.05,0.0001"}, "lrs=1,0.5,0.1,0.05,0.0001: give at least five"),
        ({"lrs": "1,0.5,0.1,0.05,nan"}, "lrs=1,0.5,0.1,0.05,nan: give at least five"),
        ({"lrs": "1,1.0,0.1,0.05,0.01"}, "lrs=1,1.0,0.1,0.05,0.01: give each value once"),
        ({"lrs": "1,0.5,fast"}, "lrs=1,0.5,fast: give numbers separated by commas"),
        ({"seeds": "1,,2"}, "seeds=1,,2: give values separated by commas"),
        ({"seeds": "1.5"}, "seeds=1.5: give whole numbers separated by commas"),
        ({"seeds": "1,1"}, "seeds=1,1: give each value once"),
        ({"dtype": "float16"}, "dtype=float16: give one of float32, float64"),
    ],
)
def test_bad_values_of_a_sweep_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        lr_sweep(SweepOptions(**options))


def test_a_sweep_has_a_training_for_each_rate_and_seed():
    configs = lr_sweep(SweepOptions(seeds="1, 2", epochs=3))
    assert [(c.seed, c.learning_rate) for c in configs] == [
        (seed, rate) for seed in (1, 2) for rate in (1, 0.5, 0.1, 0.05, 0.01, 0.001)
    ]
    assert all(c.recipe == "mlp_numpy" and c.epochs == 3 for c in configs)


@pytest.mark.parametrize("devices", ["tpu", "auto", "cpu,tpu"])
def test_bad_devices_are_refused(devices):
    with pytest.raises(ConfigError, match=f"^devices={devices}: no (tpu|auto), give cpu, cuda or"):
        cpu_vs_gpu(DevicesOptions(devices=devices))


def test_the_twins_differ_in_nothing_but_the_framework():
    (of_numpy,) = mlp_numpy(NumpyOptions())
    (of_torch,) = mlp_torch(TwinOptions(device="cpu"))
    assert replace(of_torch, recipe="mlp_numpy", framework="numpy") == of_numpy


def test_cuda_without_a_gpu_is_refused():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="PyTorch finds no GPU here; give auto or cpu"):
        cifar_cnn(CNNOptions(device="cuda"))


def test_main_trains_each_of_the_others_on_a_subset():
    configs = main(FirstLookOptions(device="cpu"))
    several = (
        "main",
        "lr_sweep",
        "cpu_vs_gpu",
        "mlp_vs_cnn",
        "optimizers",
    )  # made of the others' trainings
    assert [c.recipe for c in configs] == [name for name in RECIPES if name not in several]
    assert all(c.subset == 1000 and c.epochs == 2 for c in configs)


def test_main_takes_the_smallest_subset():
    assert all(c.batch_size == 50 for c in main(FirstLookOptions(subset=50, device="cpu")))


@pytest.mark.parametrize(
    ("validation", "message"),
    [(5, "validation=5: give 10 to 25000, half of the training"), (25001, "validation=25001: ")],
)
def test_a_validation_split_that_is_too_small_or_large_is_refused(validation, message):
    (config,) = cifar_cnn(CNNOptions(device="cpu"))
    with pytest.raises(ConfigError, match=message):
        replace(config, validation=validation)


def test_the_grid_of_optimizers_holds_a_tenth_out():
    configs = optimizers(SearchOptions(device="cpu", seeds="7,8"))
    assert len(configs) == 20
    assert {(c.validation, c.seed, c.recipe) for c in configs} == {(5000, 7, "cifar_cnn")}
    (small, *_) = optimizers(SearchOptions(device="cpu", subset=2000))
    assert (small.subset, small.validation) == (2000, 200)


def test_run_name():
    (config,) = cifar_cnn(CNNOptions(optimizer="adam", device="cpu"))
    assert config.run_name == "cifar_cnn adam lr=0.001 seed=1"


def test_what_convolves_depends_on_the_device():
    (config,) = cifar_cnn(CNNOptions(device="cpu"))
    assert (config.convolution_type, config.precision) == ("winograd", "fp32")
    assert resolve_convolution("auto", "cnn", "cuda") == "pytorch"
    (mlp, cnn) = mlp_vs_cnn(PairOptions(device="cpu", convolution="pytorch"))
    assert (mlp.convolution_type, cnn.convolution_type) == ("none", "pytorch")
    grid = optimizers(SearchOptions(device="cpu", convolution="pytorch"))
    assert {config.convolution_type for config in grid} == {"pytorch"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "precision=fp16: give one of fp32, tf32, bf16"),
        ({"precision": "tf32", "device": "cpu"}, "precision=tf32 needs a GPU and float32"),
        ({"convolution": "fft"}, "convolution=fft: give one of auto, winograd, pytorch"),
    ],
)
def test_how_to_compute_is_refused_before_a_device_is_looked_for(options, message, monkeypatch):
    def too_late(device: str) -> str:
        assert device == "cpu"
        return device

    monkeypatch.setattr("eml.recipes.resolve_device", too_late)
    for recipe, options_class in ((cifar_cnn, CNNOptions), (optimizers, SearchOptions)):
        with pytest.raises(ConfigError, match=message):
            recipe(options_class(**options))


def test_less_precision_is_for_a_gpu_and_pytorchs_convolution():
    (config,) = cifar_cnn(CNNOptions(device="cpu"))
    on_gpu = {"device_type": "cuda", "precision": "bf16"}
    assert replace(config, convolution_type="pytorch", **on_gpu).precision == "bf16"
    with pytest.raises(ConfigError, match="with convolution=winograd"):
        replace(config, **on_gpu)
    with pytest.raises(ConfigError, match="needs a GPU and float32, here it is cuda and float64"):
        replace(config, convolution_type="pytorch", dtype="float64", **on_gpu)
