"""The hand-written network against central differences, against autograd, and at its limits."""

import dataclasses
import math
import operator

import numpy as np
import pytest
import torch
from torch.nn import functional

from eml.data.datasets import Dataset, load
from eml.data.specs import SPECS
from eml.models import gradient_check
from eml.models.gradient_check import TOLERANCE, check_gradients, relative_errors
from eml.models.numpy_mlp import MLP, NumpyLearner, Sigmoid, Softmax, initial_weights
from eml.models.torch_learner import TorchLearner
from eml.training.loop import make_learner
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
    model = small_model()
    model.forward(*batch())
    model.backward()
    errors = relative_errors(model, *batch())
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


def collected(learner: NumpyLearner | TorchLearner) -> tuple[list[float], list[int]]:
    """The float32 loss of each image that the learner is going to score, and its prediction."""
    losses, predictions = [], []

    def collect(batch, outputs):
        losses.extend(batch.tolist())
        predictions.extend(outputs.argmax(axis=1).tolist())

    if isinstance(learner, TorchLearner):

        def hook(model, inputs, outputs):
            labels = learner.labels["train"][len(losses) : len(losses) + len(outputs)]
            collect(-outputs[torch.arange(len(outputs)), labels], outputs)

        learner.model.register_forward_hook(hook)
        return losses, predictions
    forward = learner.model.forward

    def wrapped(images, labels):
        batch, logits = forward(images, labels)
        collect(batch, logits)
        return batch, logits

    learner.model.forward = wrapped
    return losses, predictions


@pytest.mark.parametrize("recipe", ["mlp_numpy", "mlp_torch"])
def test_losses_of_60_000_images_are_summed_in_double_precision(recipe, monkeypatch):
    tiny = dataclasses.replace(SPECS["mnist"], image_shape=(2, 2))
    monkeypatch.setitem(SPECS, "mnist", tiny)
    size, rng = 60_001, np.random.default_rng(4)
    images = {"train": rng.integers(0, 256, (size, 2, 2), np.uint8)}
    labels = {"train": rng.integers(0, 10, size)}
    device = {} if recipe == "mlp_numpy" else {"device": "cpu"}
    learner = make_learner(
        config_of(recipe, **device), Dataset("mnist", images, labels, tiny.scaling, "")
    )
    assert {weight.dtype for weight in learner.state().values()} == {np.dtype("float32")}
    losses, predictions = collected(learner)
    score = learner.evaluate("train")
    hits = sum(map(operator.eq, predictions, labels["train"]))
    assert score.examples == len(losses) == size
    assert score.loss == pytest.approx(math.fsum(losses) / size, rel=1e-13)
    assert score.accuracy == hits / size


def test_the_self_check_finds_a_gradient_that_is_off_by_one_in_a_hundred_thousand(
    small_data, monkeypatch
):
    config, dataset = config_of("mlp_numpy"), load("mnist")
    assert check_gradients(config, dataset) < TOLERANCE
    backward = MLP.backward
    for name in ("weights_1", "bias_1", "weights_2", "bias_2", "weights_3", "bias_3"):

        def off(model, scale=1.0, name=name):
            backward(model, scale)
            model.gradients[name] *= 1 + 1e-5

        monkeypatch.setattr(MLP, "backward", off)
        assert TOLERANCE < check_gradients(config, dataset) == pytest.approx(1e-5, rel=0.1)


def test_the_self_check_sees_the_images_as_the_network_does(small_data, monkeypatch):
    checked = []
    monkeypatch.setattr(
        gradient_check, "relative_errors", lambda *arguments: checked.append(arguments) or {"": 0}
    )
    dataset = load("mnist")
    check_gradients(config_of("mlp_numpy"), dataset)
    ((_, inputs, labels, _),) = checked
    pixels = dataset.images["train"][: len(inputs)].reshape(len(inputs), 784) / 255
    np.testing.assert_allclose(inputs, (pixels - 0.1307) / 0.3081, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(labels, dataset.labels["train"][: len(inputs)])


def test_a_training_that_overflows_has_no_finite_loss_and_warns_of_nothing(small_data):
    learner = make_learner(config_of("mlp_numpy", lr=1e38), load("mnist"))
    losses = [learner.train_epoch(np.arange(500)).loss for _ in range(3)]
    assert math.isnan(losses[-1])
