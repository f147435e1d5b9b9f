"""A user's own MLP in NumPy, for numpy_mlp.NumpyLearner, with the methods of numpy_mlp.MLP."""

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from eml.errors import UserError

CLASSES = 10
# Losses (batch,), and logits or probabilities (batch, 10), of which the largest is the answer.
Scored = tuple[np.ndarray, np.ndarray]


class OwnMLP:
    """The user's class MLP. Images: (batch, 784), labels: (batch,)."""

    def __init__(self, code: ModuleType, weights: Mapping[str, np.ndarray]):
        """weights: named as by numpy_mlp.initial_weights, or as in the user's code."""
        self._make = code.MLP
        self.load(named(weights))

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Copies of the weights as they are now."""
        return {name: np.array(weight) for name, weight in self._mlp.weights().items()}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Go on with these weights, in a new MLP."""
        self._mlp = self._make({name: weight.copy() for name, weight in weights.items()})

    def forward(self, images: np.ndarray, labels: np.ndarray) -> Scored:
        return _scored(self._mlp.forward(images), labels)

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> Scored:
        """Make a step; return the scores before it."""
        one_hot = np.eye(CLASSES, dtype=images.dtype)[labels]  # (batch, 10)
        return _scored(self._mlp.step(images, one_hot, learning_rate), labels)


def named(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights by the names that they have in the user's code, "biases_1" say."""
    return {name.replace("bias_", "biases_"): array for name, array in weights.items()}


def _scored(outputs: np.ndarray, labels: np.ndarray) -> Scored:
    probabilities, right = np.asarray(outputs), (len(labels), CLASSES)
    if probabilities.shape != right:
        raise UserError(f"the code gives probabilities of shape {probabilities.shape}, not {right}")
    correct = probabilities[np.arange(len(labels)), labels]  # (batch,)
    # A probability that is 0 in its dtype must not make the loss infinite.
    return -np.log(np.maximum(correct, np.finfo(correct.dtype).tiny)), probabilities
