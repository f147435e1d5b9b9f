"""Which Configs the options become, and which values are refused."""

import pytest

from eml.recipes import (
    OPTIMIZERS,
    RECIPES,
    ConfigError,
    FirstLookOptions,
    MLPOptions,
    Options,
    cifar_cnn,
    cifar_mlp,
    main,
    mlp_torch,
)


def test_defaults_are_those_of_the_course():
    (config,) = mlp_torch(MLPOptions(device="cpu"))
    assert (config.dataset, config.model, config.activation) == ("mnist", "mlp", "sigmoid")
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.1)
    assert (config.epochs, config.batch_size, config.seed, config.subset) == (30, 64, 1, 0)


def test_cnn_has_relu_on_cifar10():
    (config,) = cifar_cnn(Options(device="cpu"))
    assert (config.dataset, config.model, config.activation) == ("cifar10", "cnn", "relu")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_auto_is_resolved_for_every_optimizer(optimizer):
    for recipe, options in ((cifar_mlp, MLPOptions), (cifar_cnn, Options)):
        (config,) = recipe(options(optimizer=optimizer, device="cpu"))
        assert 0.001 <= config.learning_rate <= 0.1


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("0.10", 0.1), ("1", 1.0)])
def test_learning_rate_is_read_as_a_number(text, number):
    (config,) = cifar_cnn(Options(lr=text, device="cpu"))
    assert config.learning_rate == number


def test_auto_device_is_resolved():
    (config,) = cifar_cnn(Options())
    assert config.device_type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "addam"}, "optimizer=addam: give one of sgd, momentum, adam"),
        ({"optimizer": "addam", "lr": "0.1"}, "optimizer=addam: give one of sgd"),
        ({"activation": "tanh"}, "activation=tanh: give one of sigmoid, relu"),
        ({"device": "tpu"}, "device=tpu: give one of auto, cpu, cuda"),
        ({"lr": "-0.1"}, "lr=-0.1: give a number above 0, or auto"),
        ({"lr": "0"}, "lr=0.0: give a number above 0, or auto"),
        ({"lr": "nan"}, "lr=nan: give a number above 0, or auto"),
        ({"lr": "inf"}, "lr=inf: give a number above 0, or auto"),
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
        mlp_torch(MLPOptions(**({"device": "cpu"} | options)))


def test_cuda_without_a_gpu_is_refused():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="PyTorch finds no GPU here; give auto or cpu"):
        cifar_cnn(Options(device="cuda"))


def test_main_trains_each_of_the_others_on_a_subset():
    configs = main(FirstLookOptions(device="cpu"))
    assert [c.recipe for c in configs] == [name for name in RECIPES if name != "main"]
    assert all(c.subset == 1000 and c.epochs == 2 for c in configs)


def test_main_takes_the_smallest_subset():
    assert all(c.batch_size == 50 for c in main(FirstLookOptions(subset=50, device="cpu")))


def test_run_name():
    (config,) = cifar_cnn(Options(optimizer="adam", device="cpu"))
    assert config.run_name == "cifar_cnn adam lr=0.001 seed=1"
