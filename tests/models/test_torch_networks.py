"""The networks against the sheet's numbers."""

import numpy as np
import torch

from eml.data.specs import SPECS
from eml.models.torch_networks import cnn, mlp


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


def test_scaling_belongs_to_the_dataset():
    pixels = np.array([0, 255])
    mnist, cifar10 = SPECS["mnist"].scaling, SPECS["cifar10"].scaling
    np.testing.assert_allclose(
        pixels * mnist.factor + mnist.offset, [-0.1307 / 0.3081, (1 - 0.1307) / 0.3081]
    )
    np.testing.assert_allclose(pixels * cifar10.factor + cifar10.offset, [0, 1])
