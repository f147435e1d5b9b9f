"""The students' NumPy networks are right, by PyTorch's gradients; every error can be planted."""

import runpy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import nll_loss

from support.own_code import ERRORS, STUDENTS, TORCH_ERRORS, planted

SIZES = (784, 512, 128, 10)


def initial(dtype=np.float64, scale=1.0):
    rng = np.random.default_rng(36)
    weights = {}
    for layer, (inputs, outputs) in enumerate(pairwise(SIZES), start=1):
        for name, shape in (("weights", (inputs, outputs)), ("biases", (outputs,))):
            values = scale * rng.normal(size=shape) / inputs**0.5
            weights[f"{name}_{layer}"] = values.astype(dtype)
    return weights


def batch(size, dtype=np.float64):
    rng = np.random.default_rng(size)
    images = rng.normal(size=(size, 784)).astype(dtype)
    return images, np.eye(10, dtype=dtype)[rng.integers(10, size=size)]


def by_autograd(weights, images, one_hot):
    """The probabilities, the loss, and its gradient for each array."""
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in weights.items()}
    x = torch.from_numpy(images)
    for layer in (1, 2, 3):
        x = x @ tensors[f"weights_{layer}"] + tensors[f"biases_{layer}"]
        x = x.sigmoid() if layer < 3 else x.log_softmax(dim=1)
    loss = nll_loss(x, torch.from_numpy(one_hot).argmax(dim=1))
    loss.backward()
    gradients = {name: tensor.grad.numpy() for name, tensor in tensors.items()}
    return x.detach().exp().numpy(), loss.item(), gradients


@pytest.mark.parametrize("file", ["layers.py", "plain.py"])
@pytest.mark.parametrize("scale", [1, 1000])  # 1000: logits of some thousands
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_right_network_takes_autograds_step(file, size, scale):
    network_class = runpy.run_path(str(STUDENTS / file))["MLP"]
    images, one_hot = batch(size)
    weights = initial(scale=scale)
    network = network_class({name: array.copy() for name, array in weights.items()})
    for _ in range(2):
        before = {name: array.copy() for name, array in network.weights().items()}
        expected, loss, gradients = by_autograd(before, images, one_hot)
        np.testing.assert_allclose(network.forward(images), expected, rtol=1e-9, atol=1e-15)
        probabilities = network.step(images, one_hot, 0.5)
        np.testing.assert_array_equal(probabilities.argmax(axis=1), expected.argmax(axis=1))
        np.testing.assert_allclose(probabilities, expected, rtol=1e-9, atol=1e-15)
        if scale == 1:
            assert -np.log(probabilities[one_hot == 1]).mean() == pytest.approx(loss, rel=1e-9)
        after = network.weights()
        assert after.keys() == gradients.keys()
        for name, gradient in gradients.items():
            np.testing.assert_allclose((before[name] - after[name]) / 0.5, gradient, atol=1e-9)


@pytest.mark.parametrize("file", ["layers.py", "plain.py"])
def test_a_right_network_keeps_its_dtype_and_its_images(file):
    images, one_hot = batch(5, np.float32)
    images.flags.writeable = False
    network = runpy.run_path(str(STUDENTS / file))["MLP"](initial(np.float32))
    assert network.forward(images).dtype == np.float32
    assert network.step(images, one_hot, np.float64(0.1)).dtype == np.float32
    assert {array.dtype for array in network.weights().values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", [*ERRORS, *TORCH_ERRORS])
def test_an_error_can_be_planted(name):
    compile(planted(name), name, "exec")
