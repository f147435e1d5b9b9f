"""Which Configs the options become, and which values are refused."""

from dataclasses import asdict, replace

import pytest

from eml.config import Config, ConfigError
from eml.recipes import RECIPES
from eml.tracking.digests import plan_digest
from support.commands import config_of, configs_of


def test_defaults_are_those_of_the_course():
    config = config_of("mlp_torch", device="cpu")
    assert (config.dataset, config.model, config.activation) == ("mnist", "mlp", "sigmoid")
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.1)
    assert (config.epochs, config.batch_size, config.seed, config.subset) == (30, 64, 1, 0)
    config = config_of("cifar_cnn", device="cpu")
    assert (config.dataset, config.model, config.activation) == ("cifar10", "cnn", "relu")


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("mlp_torch", {"optimizer": "addam"}, "optimizer=addam: give one of sgd, momentum, adam"),
        ("mlp_torch", {"optimizer": "LBFGS"}, "optimizer=lbfgs: LBFGS evaluates the loss several"),
        ("optimizers", {"optimizers": "SGD,Muon"}, "optimizer=muon: Muon takes matrices alone"),
        ("optimizers", {"optimizers": "SGD,sgd"}, "optimizers=sgd,sgd: give each value once"),
        ("mlp_torch", {"activation": "tanh"}, "activation=tanh: give one of sigmoid, relu"),
        ("mlp_torch", {"device": "tpu"}, "device=tpu: give one of auto, cpu, cuda"),
        ("mlp_torch", {"precision": "fp16"}, "precision=fp16: give one of fp32, tf32, bf16"),
        ("mlp_torch", {"lr": "-0.1"}, "lr=-0.1: give a number above 0"),
        ("mlp_torch", {"lr": "nan"}, "lr=nan: give a number above 0"),
        ("mlp_torch", {"lr": "fast"}, "lr=fast: give a number, or auto"),
        ("mlp_torch", {"momentum": "1.0", "optimizer": "momentum"}, "momentum=1.0: give 0 or more"),
        (
            "mlp_torch",
            {"momentum": "x", "optimizer": "momentum"},
            "momentum=x: give a number",
        ),
        ("mlp_torch", {"momentum": "0.5"}, "momentum=0.5 has no effect with optimizer=sgd: give"),
        ("mlp_torch", {"momentum": "0.5", "optimizer": "m"}, "optimizer=m: give one of sgd"),
        ("mlp_torch", {"epochs": 0}, "epochs=0: give 1 or more"),
        ("mlp_torch", {"batch_size": 0}, "batch_size=0: give 1 to 60000"),
        ("mlp_torch", {"batch_size": 101, "subset": 100}, "batch_size=101: give 1 to 100"),
        ("mlp_torch", {"seed": -1}, "seed=-1: give 0 to 4294967295"),
        ("mlp_torch", {"subset": 49}, "subset=49: give 50 to 60000"),
        ("lr_sweep", {"lrs": "1,0.5,0.1,0.05"}, "lrs=1,0.5,0.1,0.05: give at least five learning"),
        ("lr_sweep", {"lrs": "2,1,0.5,0.1,0.05"}, "lrs=2,1,0.5,0.1,0.05: give at least five"),
        ("lr_sweep", {"lrs": "1,1.0,0.1,0.05,0.01"}, "lrs=1,1.0,0.1,0.05,0.01: give each value"),
        ("lr_sweep", {"lrs": "1,0.5,fast"}, "lrs=1,0.5,fast: give numbers separated by commas"),
        ("lr_sweep", {"seeds": "1,,2"}, "seeds=1,,2: give whole numbers separated by commas"),
        ("lr_sweep", {"seeds": "1,1"}, "seeds=1,1: give each value once"),
        ("lr_sweep", {"dtype": "float16"}, "dtype=float16: give one of float32, float64"),
        ("cpu_vs_gpu", {"devices": "tpu"}, "devices=tpu: no tpu, give cpu, cuda or both"),
        ("cpu_vs_gpu", {"devices": "auto"}, "devices=auto: no auto, give cpu, cuda or both"),
        ("cpu_vs_gpu", {"devices": "cpu,tpu"}, "devices=cpu,tpu: no tpu, give cpu, cuda or both"),
    ],
)
def test_bad_values_are_refused_with_the_valid_ones(recipe, options, message):
    if recipe in ("mlp_torch", "optimizers"):
        options = {"device": "cpu"} | options
    with pytest.raises(ConfigError, match=f"^{message}"):
        configs_of(recipe, **options)


def test_a_sweep_has_a_training_for_each_rate_and_seed():
    configs = configs_of("lr_sweep", seeds="1, 2", epochs=3)
    assert [(c.seed, c.learning_rate) for c in configs] == [
        (seed, rate) for seed in (1, 2) for rate in (1, 0.5, 0.1, 0.05, 0.01, 0.001)
    ]
    assert all(c.recipe == "mlp_numpy" and c.epochs == 3 for c in configs)


def test_the_twins_differ_in_nothing_but_the_framework():
    of_numpy = config_of("mlp_numpy")
    of_torch = config_of("mlp_torch", device="cpu")
    assert replace(of_torch, recipe="mlp_numpy", framework="numpy") == of_numpy


def test_cuda_without_a_gpu_is_refused():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="PyTorch finds no GPU; give auto or cpu"):
        configs_of("cifar_cnn", device="cuda")


def test_main_trains_each_of_the_others_on_a_subset():
    configs = configs_of("main", device="cpu")
    assert [c.recipe for c in configs] == ["mlp_numpy", "mlp_torch", "cifar_mlp", "cifar_cnn"]
    assert all(c.subset == 1000 and c.epochs == 2 for c in configs)

    assert all(c.batch_size == 50 for c in configs_of("main", subset=50, device="cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": 5}, "validation=5: give 10 to 25000, half of the training"),
        ({"validation": 25001}, "validation=25001: "),
        ({"precision": "tf32"}, "precision=tf32 needs a GPU"),
        (
            {"precision": "bf16", "device_type": "cuda", "dtype": "float64"},
            "precision=bf16 needs dtype=float32",
        ),
    ],
)
def test_a_config_with_a_bad_value_is_refused(change, message):
    config = config_of("cifar_cnn", device="cpu")
    with pytest.raises(ConfigError, match=message):
        replace(config, **change)


def test_less_precision_is_for_float32():
    config = config_of("cifar_cnn", device="cpu")
    on_gpu = {"device_type": "cuda", "precision": "bf16"}
    assert replace(config, **on_gpu).precision == "bf16"
    assert replace(config, precision="bf16").device_type == "cpu"


def test_only_trainings_in_pytorch_are_put_on_the_gpu():
    options = RECIPES["main"].options(device="cuda")
    placed = options.placed(RECIPES["main"].configs(options), lambda device: device)
    assert [(config.framework, config.device_type) for config in placed] == [
        ("numpy", "cpu"),
        *[("torch", "cuda")] * 3,
    ]


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("cifar_cnn", {"optimizer": "AdamW"}),
        ("cifar_cnn", {"optimizer": "Momentum", "momentum": "0.5"}),
        ("mlp_vs_cnn", {"optimizer": "NAdam"}),
        ("optimizers", {"optimizers": "SGD,Adam"}),
    ],
)
def test_names_of_optimizers_are_the_same_in_any_case(recipe, options):
    digests = []
    for typed in (options, {name: value.lower() for name, value in options.items()}):
        made = RECIPES[recipe].options(**typed)
        digests.append(plan_digest(recipe, RECIPES[recipe].configs(made), made))
    assert digests[0] == digests[1]


def test_a_config_of_another_version_is_read():
    """A field that has gone is left out; one that came later has the value that runs had."""
    config = config_of("mlp_numpy")
    stored = asdict(config) | {"convolution_type": "none"}
    del stored["precision"], stored["validation"], stored["dtype"]
    stored["optimizer"] = "SGD"  # as typed for `mlflow run`
    assert Config.from_stored(stored) == config
