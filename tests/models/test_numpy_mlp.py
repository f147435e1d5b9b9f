"""The hand-written network against central differences, against autograd, and at its limits."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from eml.data.datasets import load
from eml.models import numpy_mlp
from eml.models.gradient_check import TOLERANCE, check_gradients, relative_errors
from eml.models.numpy_mlp import MLP, NumpyLearner, Sigmoid, Softmax, initial_weights
from eml.models.torch_learner import TorchLearner
from eml.seeds import order_of
from support.commands import config_of

SIZES = (7, 6, 5, 10)


def small_model(rows: int = 4, dtype=np.float64) -> MLP:
    weights = initial_weights(SIZES, seed=3)
    return MLP({name: weight.astype(dtype) for name, weight in weights.items()}, rows)


def batch(size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.standard_normal((size, SIZES[0])), rng.integers(0, 10, size)


def autograd(weights: dict, inputs: np.ndarray, labels: np.ndarray) -> tuple[float, dict]:
    """Loss and gradients of the same network in PyTorch, in double precision."""
    tensors = {
        k: torch.tensor(w, dtype=torch.float64, requires_grad=True) for k, w in weights.items()
    }
    x = torch.tensor(inputs)
    for number in (1, 2, 3):
        x = x @ tensors[f"weights_{number}"] + tensors[f"bias_{number}"]
        x = torch.sigmoid(x) if number < 3 else x
    loss = functional.cross_entropy(x, torch.tensor(labels))
    loss.backward()
    return loss.item(), {name: tensor.grad.numpy() for name, tensor in tensors.items()}


def test_every_gradient_agrees_with_central_differences():
    errors = relative_errors(small_model(), *batch())
    assert set(errors) == {f"{kind}_{n}" for n in (1, 2, 3) for kind in ("weights", "bias")}
    assert max(errors.values()) < 1e-7


def test_every_gradient_agrees_with_autograd():
    model, (inputs, labels) = small_model(), batch()
    assert all(np.all(weight != 0) for weight in model.weights.values())
    losses, _ = model.forward(inputs, labels)
    model.backward()
    loss, gradients = autograd(model.weights, inputs, labels)
    assert losses.mean() == pytest.approx(loss, rel=1e-14)
    for name, gradient in model.gradients.items():
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-10, atol=1e-15)


def test_the_gradient_is_averaged_over_the_images_of_the_step():
    # A batch of 3 in buffers for 8, which hold a larger batch's values.
    model, (inputs, labels) = small_model(rows=8), batch(8)
    model.forward(inputs, labels)
    model.backward()
    model.forward(inputs[:3], labels[:3])
    model.backward()
    _, gradients = autograd(model.weights, inputs[:3], labels[:3])
    for name, gradient in model.gradients.items():
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-10, atol=1e-15)


def test_a_step_is_gradient_descent():
    model, (inputs, labels) = small_model(), batch()
    before = {name: weight.copy() for name, weight in model.weights.items()}
    _, gradients = autograd(before, inputs, labels)
    model.forward(inputs, labels)
    model.step(learning_rate=0.5)
    for name, weight in model.weights.items():
        np.testing.assert_allclose(weight, before[name] - 0.5 * gradients[name], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_far_from_zero(dtype):
    inputs = np.array([[-1e4, -100, -1, 0, 1, 100, 1e4]], dtype)
    expected = [[0, 0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1, 1]]
    layer = Sigmoid(1, 7, dtype)
    outputs = layer.forward(inputs.copy())
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=np.finfo(dtype).eps)
    gradient = layer.backward(np.ones((1, 7), dtype))
    assert np.isfinite(gradient).all()
    assert gradient.dtype == outputs.dtype == dtype
    assert gradient[0, 3] == 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_logits_far_from_zero(dtype):
    logits = np.zeros((4, 10), dtype)  # each image has its own largest logit
    logits[:3, 0] = 1e4
    logits[:3, 1] = -1e4
    layer = Softmax()
    losses = layer.forward(logits, np.array([0, 1, 2, 3]))
    np.testing.assert_allclose(losses, [0, 2e4, 1e4, math.log(10)])
    np.testing.assert_allclose(layer.backward().sum(axis=1), 0, atol=1e-7)


def test_initial_weights_are_the_templates():
    weights = initial_weights((784, 512, 128, 10), seed=1)
    shapes = [(784, 512), (512,), (512, 128), (128,), (128, 10), (10,)]
    assert [weight.shape for weight in weights.values()] == shapes
    for inputs, number in ((784, 1), (512, 2), (128, 3)):
        for kind in ("weights", "bias"):
            values = weights[f"{kind}_{number}"].ravel() * math.sqrt(inputs)
            # Five standard errors: of a mean, and of a standard deviation.
            assert values.mean() == pytest.approx(0, abs=5 / math.sqrt(values.size))
            if values.size > 10:  # of ten biases the error is larger than what it could find
                assert values.std() == pytest.approx(1, abs=5 / math.sqrt(2 * values.size))
    assert not np.array_equal(
        weights["bias_1"], initial_weights((784, 512, 128, 10), seed=2)["bias_1"]
    )


def twins(dtype: str, **options) -> tuple[NumpyLearner, TorchLearner]:
    """The learners of mlp_numpy and mlp_torch for the same options."""
    dataset = load("mnist")
    of_numpy = config_of("mlp_numpy", dtype=dtype, **options)
    of_torch = config_of("mlp_torch", dtype=dtype, device="cpu", **options)
    return NumpyLearner(of_numpy, dataset), TorchLearner(of_torch, dataset)


def test_it_is_the_torch_mlps_twin_at_every_step(small_data):
    learners = twins("float64")
    states = [learner.state() for learner in learners]
    for number in (1, 2, 3):
        weights, bias = states[1][f"linear{number}.weight"].T, states[1][f"linear{number}.bias"]
        np.testing.assert_array_equal(states[0][f"weights_{number}"], weights)
        np.testing.assert_array_equal(states[0][f"bias_{number}"], bias)
    for epoch in (1, 2, 3):
        order = order_of(1, epoch, 500)
        for start in range(0, 500, 64):  # the last batch has 52 images
            scores = [learner.train_epoch(order[start : start + 64]) for learner in learners]
            assert scores[0].loss == pytest.approx(scores[1].loss, abs=1e-9)
            assert scores[0].accuracy == scores[1].accuracy
    for split in ("train", "test"):
        scores = [learner.evaluate(split) for learner in learners]
        assert scores[0] == pytest.approx(scores[1], abs=1e-9)


def test_both_twins_can_compute_in_float32(small_data):
    losses = []
    for learner in twins("float32"):
        assert all(weight.dtype == np.float32 for weight in learner.state().values())
        losses.append([learner.train_epoch(order_of(1, epoch, 500)).loss for epoch in (1, 2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_self_check_passes_and_notices_a_wrong_gradient(small_data, monkeypatch):
    config = config_of("mlp_numpy")
    assert check_gradients(config, load("mnist")) < TOLERANCE
    monkeypatch.setattr(
        numpy_mlp.Linear,
        "backward",
        lambda self, gradient, right=numpy_mlp.Linear.backward: right(self, -gradient),
    )
    assert check_gradients(config, load("mnist")) > 0.1
