"""What the learner leaves as it is, and what its precision is."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from eml.config import ConfigError
from eml.data.datasets import load
from eml.models import torch_learner
from eml.models.optimizers import OPTIMIZERS
from eml.models.torch_learner import TorchLearner
from eml.models.torch_networks import cnn
from eml.seeds import order_of
from eml.training.loop import load_for
from support.commands import config_of


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
    losses = []
    for dtype, chosen in (("float64", "fp32"), ("float32", "fp32"), ("float32", precision)):
        config = config_of("cifar_cnn", dtype=dtype, precision=chosen, lr="0.01", device=device)
        learner = TorchLearner(config, load("cifar10"))
        losses.append([learner.train_epoch(order_of(1, epoch, 300)).loss for epoch in (1, 2)])
    exact, single, less = losses
    assert single == pytest.approx(exact, rel=1e-6)
    assert less != single
    assert less == pytest.approx(exact, rel=0.01)


def test_bf16_is_refused_on_a_processor_without_it(small_data, monkeypatch):
    monkeypatch.setattr(torch_learner, "cpu_instructions", lambda: {"avx2", "avx512f"})
    config = config_of("cifar_cnn", precision="bf16", device="cpu")
    with pytest.raises(ConfigError, match=r"precision=bf16: not on this .+, give fp32"):
        TorchLearner(config, load("cifar10"))
