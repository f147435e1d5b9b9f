"""Checks the hand-written gradients against central differences, in double precision."""

import numpy as np

from eml.config import Config
from eml.data.datasets import Dataset
from eml.models.numpy_mlp import MLP, initial_weights, mlp_sizes

TOLERANCE = 1e-6  # relative error: 1e-8 to 1e-7 for right gradients, about 1 for wrong ones
IMAGES = 64  # enough for the check, whatever the batch size
ENTRIES = 20  # random entries to check in each array; all 468,874 would take hours
STEP = 1e-5  # near the cube root of the rounding error, where the total error is smallest


def check_gradients(config: Config, dataset: Dataset) -> float:
    """Return the largest relative error over the weight arrays, for the first IMAGES images."""
    sizes = mlp_sizes(dataset.images["train"][0].size)
    images = dataset.images["train"][:IMAGES]
    inputs = images.reshape(len(images), -1) * dataset.scaling.factor  # (batch, 784), float64
    inputs += dataset.scaling.offset  # (batch, 784)
    labels = dataset.labels["train"][:IMAGES]
    model = MLP(initial_weights(sizes, config.seed), rows=len(inputs))
    model.forward(inputs, labels)
    model.backward()
    errors = relative_errors(model, inputs, labels, ENTRIES)
    return float(np.max(list(errors.values())))  # NaN if one is NaN, unlike max()


def relative_errors(
    model: MLP, inputs: np.ndarray, labels: np.ndarray, entries: int | None = None
) -> dict[str, float]:
    """Return |gradient - numerical| / |numerical|, lengths of vectors, for each weight array.

    model: with float64 weights, and the gradients to check. inputs: (batch, inputs). labels:
    (batch,). entries: number of random entries to check in each array; None checks all.
    """
    rng = np.random.default_rng(0)
    errors = {}
    for name, gradient in model.gradients.items():
        weight = model.weights[name].reshape(-1)
        chosen = rng.permutation(weight.size)[:entries]
        numerical = np.empty(len(chosen))
        for row, position in enumerate(chosen):
            value = weight[position]
            losses = []
            for moved in (value + STEP, value - STEP):
                weight[position] = moved
                losses.append(model.forward(inputs, labels)[0].mean())
            weight[position] = value
            numerical[row] = (losses[0] - losses[1]) / (2 * STEP)
        difference = np.linalg.norm(gradient.reshape(-1)[chosen] - numerical)
        errors[name] = float(difference / np.linalg.norm(numerical))
    return errors
