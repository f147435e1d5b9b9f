"""The networks against the sheet's numbers, and the learner against arithmetic of its own."""

import numpy as np
import pytest
import torch

from eml.config import OPTIMIZERS
from eml.data import SPECS, load
from eml.recipes import Options, TwinOptions, cifar_cnn, mlp_torch
from eml.torch_models import TorchLearner, cnn, make_model, make_optimizer, mlp
from eml.train import order_of


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_mlp_parameter_counts():
    hidden = 512 * 128 + 128 + 128 * 10 + 10
    assert parameters(mlp(784, "sigmoid")) == 784 * 512 + 512 + hidden == 468_874
    assert parameters(mlp(3072, "relu")) == 3072 * 512 + 512 + hidden == 1_640_330


def test_cnn_parameter_count():
    convolutions = (3 * 9 * 32 + 32) + (32 * 9 * 64 + 64) + (64 * 9 * 128 + 128)
    linears = (18432 * 128 + 128) + (128 * 10 + 10)
    assert parameters(cnn()) == convolutions + linears == 2_453_962


def test_cnn_output_sizes():
    sizes = {}
    model = cnn()
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: out.shape}))
    model(torch.rand(2, 3, 32, 32))
    assert sizes["conv1"] == (2, 32, 30, 30)
    assert sizes["conv2"] == (2, 64, 14, 14)
    assert sizes["conv3"] == (2, 128, 12, 12)
    assert sizes["flatten"] == (2, 18432)
    assert sizes["linear1"] == (2, 128)
    assert sizes["log_softmax"] == (2, 10)


def test_outputs_are_log_probabilities():
    for model, shape in ((cnn(), (3, 3, 32, 32)), (mlp(784, "sigmoid"), (3, 28, 28))):
        totals = model(torch.rand(shape)).exp().sum(dim=1)
        torch.testing.assert_close(totals, torch.ones(3))


def test_activation_is_the_one_asked_for():
    names = [type(layer).__name__ for layer in mlp(784, "relu")]
    assert names.count("ReLU") == 2
    assert "Sigmoid" not in names


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_a_step_at_the_rate_given(name):
    (config,) = mlp_torch(TwinOptions(optimizer=name, lr="0.05", device="cpu"))
    model = make_model(config)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(config, model)
    model(torch.rand(4, 28, 28)).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert all(
        not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
    )


def test_momentum_is_given_to_the_optimizer_of_that_name_alone():
    for optimizer, momentum in (("momentum", 0.8), ("sgd", 0)):
        extra = {"momentum": 0.8} if momentum else {}
        (config,) = mlp_torch(TwinOptions(optimizer=optimizer, device="cpu", **extra))
        groups = make_optimizer(config, make_model(config)).param_groups
        assert groups[0]["momentum"] == momentum


def numpy_forward(state: dict, images: np.ndarray) -> np.ndarray:
    """Log-probabilities of the sigmoid MLP in float64, written independently of PyTorch."""
    x = images.reshape(len(images), -1)
    for layer in ("linear1", "linear2"):
        x = 1 / (1 + np.exp(-(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])))
    logits = x @ state["linear3.weight"].T + state["linear3.bias"]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_evaluate_is_the_mean_over_all_images_scaled_as_mnist(small_data):
    (config,) = mlp_torch(TwinOptions(device="cpu"))
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
    (config,) = mlp_torch(TwinOptions(lr="1e-30", device="cpu"))
    learner = TorchLearner(config, load("mnist"))
    expected = learner.evaluate("train")
    score = learner.train_epoch(np.random.default_rng(3).permutation(500))
    assert score.examples == 500
    assert score.accuracy == expected.accuracy
    assert score.loss == pytest.approx(expected.loss, rel=1e-6)


def test_evaluation_does_not_train(small_data):
    (config,) = cifar_cnn(Options(device="cpu"))
    learner = TorchLearner(config, load("cifar10"))
    before = {name: value.copy() for name, value in learner.state().items()}
    learner.evaluate("test")
    for name, value in learner.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_warm_up_leaves_the_initial_weights_of_the_seed(small_data):
    (config,) = cifar_cnn(Options(seed=5, device="cpu"))
    learner = TorchLearner(config, load("cifar10"))
    torch.manual_seed(5)
    for name, value in cnn().state_dict().items():
        np.testing.assert_array_equal(learner.state()[name], value.numpy())


def test_state_round_trip(small_data):
    (config,) = mlp_torch(TwinOptions(device="cpu"))
    (other,) = mlp_torch(TwinOptions(seed=2, device="cpu"))
    first, second = (TorchLearner(c, load("mnist")) for c in (config, other))
    assert first.evaluate("test") != second.evaluate("test")
    second.load_state(first.state())
    assert first.evaluate("test") == second.evaluate("test")


def test_scaling_belongs_to_the_dataset():
    pixels = np.array([0, 255])
    mnist, cifar10 = SPECS["mnist"].scaling, SPECS["cifar10"].scaling
    np.testing.assert_allclose(
        pixels * mnist.factor + mnist.offset, [-0.1307 / 0.3081, (1 - 0.1307) / 0.3081]
    )
    np.testing.assert_allclose(pixels * cifar10.factor + cifar10.offset, [0, 1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_cuda_trains_as_the_cpu_does(small_data):
    losses = []
    for device in ("cpu", "cuda"):
        (config,) = mlp_torch(TwinOptions(device=device))
        learner = TorchLearner(config, load("mnist"))
        losses.append([learner.train_epoch(order_of(1, epoch, 500)).loss for epoch in (1, 2)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
