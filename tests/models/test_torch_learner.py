"""The learner against arithmetic of its own, and its fast paths against plain PyTorch."""

import platform
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch

from eml.config import Config, ConfigError
from eml.data.datasets import Dataset, load
from eml.models import torch_learner
from eml.models.optimizers import OPTIMIZERS
from eml.models.torch_learner import TorchLearner
from eml.models.torch_networks import cnn
from eml.seeds import order_of
from eml.training.loop import load_for
from support.commands import config_of


def numpy_forward(state: dict, images: np.ndarray) -> np.ndarray:
    """Log-probabilities of the sigmoid MLP in float64, written independently of PyTorch."""
    x = images.reshape(len(images), -1)
    for layer in ("linear1", "linear2"):
        x = 1 / (1 + np.exp(-(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])))
    logits = x @ state["linear3.weight"].T + state["linear3.bias"]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_evaluate_is_the_mean_over_all_images_scaled_as_mnist(small_data):
    config = config_of("mlp_torch", device="cpu")
    dataset = load("mnist")
    learner = TorchLearner(config, dataset)
    score = learner.evaluate("train")
    images = (dataset.images["train"].astype(float) / 255 - 0.1307) / 0.3081
    expected = numpy_forward(learner.state(), images)
    labels = dataset.labels["train"]
    assert score.examples == 500
    assert score.loss == pytest.approx(-expected[np.arange(500), labels].mean(), rel=1e-5)
    assert score.accuracy == (expected.argmax(axis=1) == labels).mean()


def test_training_loss_counts_the_last_small_batch_by_its_images(small_data):
    # With a rate of nearly 0 nothing changes, so the mean over the epoch's examples is that of
    # evaluate. 500 images in batches of 64 leave 52: a mean of batch means would differ.
    config = config_of("mlp_torch", lr="1e-30", device="cpu")
    learner = TorchLearner(config, load("mnist"))
    expected = learner.evaluate("train")
    score = learner.train_epoch(np.random.default_rng(3).permutation(500))
    assert score.examples == 500
    assert score.accuracy == expected.accuracy
    assert score.loss == pytest.approx(expected.loss, rel=1e-6)


def test_evaluation_does_not_train(small_data):
    config = config_of("cifar_cnn", device="cpu")
    learner = TorchLearner(config, load("cifar10"))
    before = {name: value.copy() for name, value in learner.state().items()}
    learner.evaluate("test")
    for name, value in learner.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_warm_up_leaves_the_initial_weights_of_the_seed(small_data):
    config = config_of("cifar_cnn", seed=5, device="cpu")
    learner = TorchLearner(config, load("cifar10"))
    torch.manual_seed(5)
    for name, value in cnn().state_dict().items():
        np.testing.assert_array_equal(learner.state()[name], value.numpy())


def plain_epochs(config: Config, dataset: Dataset, epochs: int) -> tuple[list[float], dict]:
    """Losses and weights of a loop as one writes it: nothing fused, nothing warmed up."""
    torch.manual_seed(config.seed)
    model = cnn().double()
    module, _, name = OPTIMIZERS[config.optimizer].made_by.rpartition(".")
    optimizer_class = getattr(import_module(module), name)
    momentum = {"momentum": config.momentum} if config.optimizer == "momentum" else {}
    optimizer = optimizer_class(model.parameters(), lr=config.learning_rate, **momentum)
    images = torch.from_numpy(dataset.images["train"]).double() / 255
    labels = torch.from_numpy(dataset.labels["train"])
    losses = []
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = torch.from_numpy(order_of(config.seed, epoch, len(labels)))
        for index in order.split(config.batch_size):
            loss = torch.nn.functional.nll_loss(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        losses.append(total / len(labels))
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trains_as_a_plain_loop_does(optimizer, small_data):
    # 100 images in batches of 32 leave 4. In double precision, so that a wrong step is no rounding.
    options = {"subset": 100, "batch_size": 32, "dtype": "float64", "device": "cpu"}
    config = config_of("cifar_cnn", optimizer=optimizer, **options)
    dataset = load_for(config)
    learner = TorchLearner(config, dataset)
    losses = [learner.train_epoch(order_of(1, epoch, 100)).loss for epoch in (1, 2)]
    expected, weights = plain_epochs(config, dataset, 2)
    assert losses == pytest.approx(expected, rel=1e-9)
    for name, value in learner.state().items():
        np.testing.assert_allclose(value, weights[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_for_practice_are_undone_before_the_first_step_and_later(optimizer, small_data):
    # As threads.py does: whatever was practised, the losses are those of a learner that did not.
    config = config_of("mlp_torch", optimizer=optimizer, subset=100, dtype="float64", device="cpu")
    dataset = load_for(config)
    learner, other = TorchLearner(config, dataset), TorchLearner(config, dataset)
    for epoch in (1, 2):
        state = {name: value.copy() for name, value in learner.training_state().items()}
        learner.practise()
        learner.practise()
        learner.load_training_state(state)
        order = order_of(1, epoch, 100)
        assert learner.train_epoch(order) == other.train_epoch(order)


def test_the_score_does_not_depend_on_the_batches_of_the_evaluation(small_data, monkeypatch):
    config = config_of("cifar_cnn", device="cpu")
    learner = TorchLearner(config, load("cifar10"))
    whole = learner.evaluate("train")
    monkeypatch.setitem(torch_learner.EVALUATION_BATCH, "cpu", 33)
    assert learner.evaluate("train").loss == pytest.approx(whole.loss, rel=1e-6)
    assert learner.evaluate("train")[1:] == whole[1:]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_freed_is_not_given_back_to_the_system():
    program = (
        "import resource, sys, torch; from eml.models.torch_learner import keep_freed_memory\n"
        "if sys.argv[1:]: keep_freed_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def step(): [torch.ones(n << 20) for n in (2, 4, 8)]\n"
        "[step() for _ in range(5)]; before = faults(); [step() for _ in range(10)]\n"
        "print(faults() - before)"
    )

    def faults(*arguments: str) -> int:
        command = [sys.executable, "-c", program, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") * 10 < faults()


def test_fp32_does_without_tf32(small_data):
    torch_learner.allow_tf32(True)
    TorchLearner(config_of("cifar_cnn", device="cpu"), load("cifar10"))
    for backend in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
        assert backend.fp32_precision == "ieee"


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@on_a_gpu
def test_cuda_trains_as_the_cpu_does(small_data):
    losses = []
    for device in ("cpu", "cuda"):
        config = config_of("mlp_torch", device=device)
        learner = TorchLearner(config, load("mnist"))
        losses.append([learner.train_epoch(order_of(1, epoch, 500)).loss for epoch in (1, 2)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "bf16"),
        pytest.param("cuda", "tf32", marks=on_a_gpu),
        pytest.param("cuda", "bf16", marks=on_a_gpu),
    ],
)
def test_less_precision_is_a_little_less_exact(device, precision, small_data, monkeypatch):
    # Without the instructions PyTorch computes the same, slowly.
    monkeypatch.setattr(torch_learner, "cpu_instructions", lambda: {"amx_bf16"})
    scores = []
    for chosen in ("fp32", precision):
        config = config_of("cifar_cnn", precision=chosen, lr="0.01", device=device)
        learner = TorchLearner(config, load("cifar10"))
        scores.append([learner.train_epoch(order_of(1, epoch, 300)).loss for epoch in (1, 2)])
    assert scores[0] != scores[1]
    assert scores[1] == pytest.approx(scores[0], rel=0.01)


def test_bf16_is_refused_on_a_processor_without_it(small_data, monkeypatch):
    monkeypatch.setattr(torch_learner, "cpu_instructions", lambda: {"avx2", "avx512f"})
    config = config_of("cifar_cnn", precision="bf16", device="cpu")
    with pytest.raises(ConfigError, match=r"precision=bf16: not on this .+, give fp32"):
        TorchLearner(config, load("cifar10"))
