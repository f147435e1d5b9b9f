"""The MLP of sheet 2 in NumPy alone: forward, backward and update by hand, and its learner.

In the shape comments, `batch` is the number of images in the step. The last batch of an epoch may
be smaller than the others, so each layer keeps buffers for the largest batch and uses their first
rows. A layer returns such a buffer: the next call of the layer overwrites it.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from types import ModuleType

import numpy as np
from threadpoolctl import ThreadpoolController

from eml.config import Config
from eml.data.datasets import Dataset
from eml.machine import cpu_name
from eml.models.learner import Score
from eml.models.own_mlp import OwnMLP, Scored
from eml.seeds import weights_generator

EVALUATION_BATCH = 500  # images; the outputs of their layers fit in the processor's caches


def mlp_sizes(inputs: int) -> tuple[int, ...]:
    """Return the widths of sheet 2's MLP: inputs, two hidden layers, classes."""
    return (inputs, 512, 128, 10)


def initial_weights(sizes: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Make the course template's weights and biases, N(0, 1) * sqrt(1 / inputs), in float64.

    Keys: "weights_1" (inputs, outputs), "bias_1" (outputs,), "weights_2", ... for each layer.
    """
    rng = weights_generator(seed)
    weights = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        scale = math.sqrt(1 / inputs)
        weights[f"weights_{number}"] = scale * rng.standard_normal((inputs, outputs))
        weights[f"bias_{number}"] = scale * rng.standard_normal(outputs)
    return weights


class Linear:
    """outputs = inputs @ weights + bias."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray, rows: int, first: bool = False):
        """weights: (inputs, outputs). bias: (outputs,). rows: images in the largest batch.

        first: the inputs are images, whose gradient is not needed.
        """
        inputs, outputs = weights.shape
        self.weights = weights  # (inputs, outputs)
        self.bias = bias  # (outputs,)
        self.weights_gradient = np.empty_like(weights)  # (inputs, outputs)
        self.bias_gradient = np.empty_like(bias)  # (outputs,)
        self._outputs = np.empty((rows, outputs), weights.dtype)  # (rows, outputs)
        self._inputs_gradient = None
        if not first:
            self._inputs_gradient = np.empty((rows, inputs), weights.dtype)  # (rows, inputs)

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        self._inputs = inputs  # (batch, inputs)
        outputs = self._outputs[: len(inputs)]  # (batch, outputs)
        np.matmul(inputs, self.weights, out=outputs)  # (batch, outputs)
        outputs += self.bias  # (batch, outputs)
        return outputs

    def backward(self, gradient: np.ndarray) -> np.ndarray | None:
        """Set the gradients of weights and bias; return that of the inputs, (batch, inputs)."""
        np.matmul(self._inputs.T, gradient, out=self.weights_gradient)  # (inputs, outputs)
        gradient.sum(axis=0, out=self.bias_gradient)  # (outputs,)
        if self._inputs_gradient is None:
            return None
        inputs_gradient = self._inputs_gradient[: len(gradient)]  # (batch, inputs)
        return np.matmul(gradient, self.weights.T, out=inputs_gradient)  # (batch, inputs)


class Sigmoid:
    """outputs = 1 / (1 + exp(-inputs)) = (1 + tanh(inputs / 2)) / 2, which cannot overflow.

    Works in place: overwrites inputs and gradients.
    """

    def __init__(self, rows: int, width: int, dtype: np.dtype):
        self._derivative = np.empty((rows, width), dtype)  # (rows, width)

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        inputs *= 0.5  # (batch, width)
        np.tanh(inputs, out=inputs)  # (batch, width)
        inputs *= 0.5  # (batch, width)
        inputs += 0.5  # (batch, width)
        self._outputs = inputs  # (batch, width)
        return inputs

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """Multiply by d outputs / d inputs = outputs * (1 - outputs)."""
        derivative = self._derivative[: len(gradient)]  # (batch, width)
        np.subtract(1, self._outputs, out=derivative)  # (batch, width)
        derivative *= self._outputs  # (batch, width)
        gradient *= derivative  # (batch, width)
        return gradient


class Softmax:
    """Softmax and the cross-entropy of its outputs, computed together from the logits.

    loss = log(sum(exp(logits))) - logits[label], with the largest logit subtracted first, so that
    exp() cannot overflow and log() never sees a probability of 0.
    """

    def forward(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return each image's loss, (batch,), in nats. logits: (batch, 10). labels: (batch,)."""
        self._correct = np.arange(len(labels)), labels  # the index of each image's label
        shifted = logits - logits.max(axis=1, keepdims=True)  # (batch, 10)
        exponentials = np.exp(shifted)  # (batch, 10)
        totals = exponentials.sum(axis=1, keepdims=True)  # (batch, 1)
        self._probabilities = exponentials / totals  # (batch, 10)
        losses: np.ndarray = np.log(totals[:, 0]) - shifted[self._correct]  # (batch,)
        return losses

    def backward(self, scale: float = 1.0) -> np.ndarray:
        """Return `scale` times the mean loss's gradient: (softmax - one-hot) / batch."""
        gradient: np.ndarray = self._probabilities  # (batch, 10)
        gradient[self._correct] -= 1  # (batch, 10)
        gradient *= scale / len(gradient)  # (batch, 10)
        return gradient


class MLP:
    """Linear layers with sigmoids between them, and softmax at the end."""

    def __init__(self, weights: dict[str, np.ndarray], rows: int):
        """weights: named as by initial_weights, in the dtype to compute in. rows: see Linear."""
        self.weights = weights
        self.gradients: dict[str, np.ndarray] = {}  # by the names of their weights
        self.layers: list[Linear | Sigmoid] = []
        for number in range(1, len(weights) // 2 + 1):
            of_layer, bias = weights[f"weights_{number}"], weights[f"bias_{number}"]
            if self.layers:
                self.layers.append(Sigmoid(rows, len(of_layer), of_layer.dtype))
            layer = Linear(of_layer, bias, rows, first=number == 1)
            self.layers.append(layer)
            self.gradients[f"weights_{number}"] = layer.weights_gradient
            self.gradients[f"bias_{number}"] = layer.bias_gradient
        self.softmax = Softmax()

    def forward(self, images: np.ndarray, labels: np.ndarray) -> Scored:
        """Return losses (batch,), logits (batch, 10). images: (batch, inputs), labels: (batch,)."""
        outputs = images  # (batch, inputs)
        for layer in self.layers:
            outputs = layer.forward(outputs)  # (batch, outputs of the layer)
        return self.softmax.forward(outputs, labels), outputs

    def backward(self, scale: float = 1.0) -> None:
        """Set the gradients of the last batch's mean loss, times `scale`."""
        gradient: np.ndarray | None = self.softmax.backward(scale)  # (batch, 10)
        for layer in reversed(self.layers):
            assert gradient is not None  # only the first layer returns None
            gradient = layer.backward(gradient)  # (batch, inputs of the layer)

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> Scored:
        """Make a step of gradient descent; return the result of its forward pass."""
        scored = self.forward(images, labels)
        # All gradients are linear in the first one: scale its 640 numbers, not 468,874.
        self.backward(scale=learning_rate)
        for name, weight in self.weights.items():
            weight -= self.gradients[name]
        return scored

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Go on with these weights, of the same shapes."""
        for name, weight in self.weights.items():
            weight[...] = weights[name]


class NumpyLearner:
    """The learner of the NumPy MLP (see learner.Learner for the methods).

    Images stay in memory as bytes and are scaled batch by batch.
    """

    def __init__(self, config: Config, dataset: Dataset, code: ModuleType | None = None):
        """code: the user's own (own_code.py), with another MLP."""
        dtype = np.dtype(config.dtype)
        self.batch_size = config.batch_size
        self.learning_rate = config.learning_rate
        self.images = {k: v.reshape(len(v), -1) for k, v in dataset.images.items()}
        self.labels = dataset.labels
        self.scaling = dataset.scaling
        rows = max(self.batch_size, EVALUATION_BATCH)
        inputs = self.images["train"].shape[1]
        initial = initial_weights(mlp_sizes(inputs), config.seed)
        weights = {name: w.astype(dtype) for name, w in initial.items()}
        self.model = OwnMLP(code, weights) if code else MLP(weights, rows)
        self._bytes = np.empty((rows, inputs), np.uint8)  # (rows, 784)
        self._inputs = np.empty((rows, inputs), dtype)  # (rows, 784)
        self.hardware = cpu_name()
        self.parameters = sum(weight.size for weight in weights.values())
        self._libraries = ThreadpoolController()
        initial = self.state()
        self.practise()  # starts the BLAS threads
        self.load_state(initial)

    def use_threads(self, number: int) -> None:
        self._libraries.limit(limits=number, user_api="blas")

    def practise(self) -> None:
        self._go_through("train", np.arange(self.batch_size), self.batch_size, 0.0)
        self._reset_sums()

    def train_epoch(self, order: np.ndarray) -> Score:
        return self._go_through("train", order, self.batch_size, self.learning_rate)

    def evaluate(self, split: str) -> Score:
        everything = np.arange(len(self.labels[split]))  # (images,)
        return self._go_through(split, everything, EVALUATION_BATCH)

    def synchronize(self) -> None:
        """Return at once: NumPy's functions return when they are done."""

    def state(self) -> dict[str, np.ndarray]:
        return {name: weight.copy() for name, weight in self.model.weights.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load(state)

    # Plain gradient descent has no state besides the weights.
    training_state = state
    load_training_state = load_state

    def running_score(self) -> Score:
        return Score.mean(self._loss_sum, self._hits, self._examples)

    # The loss reports a diverged training; NumPy's warnings in every step are not needed.
    @np.errstate(over="ignore", invalid="ignore")
    def _go_through(
        self, split: str, order: np.ndarray, batch: int, learning_rate: float | None = None
    ) -> Score:
        """Score the images in batches; with a learning rate make a step after each."""
        self._reset_sums()
        for start in range(0, len(order), batch):
            self._score(split, order[start : start + batch], learning_rate)
        return self.running_score()

    def _score(self, split: str, index: np.ndarray, learning_rate: float | None) -> None:
        """Add losses and hits of the images at `index` (batch,); then make a step, if any."""
        batch = len(index)
        # mode="clip" lets NumPy write to `out` directly; no index is out of range.
        pixels = self._bytes[:batch]  # (batch, 784)
        self.images[split].take(index, axis=0, out=pixels, mode="clip")  # (batch, 784)
        inputs = self._inputs[:batch]  # (batch, 784)
        inputs[...] = pixels  # (batch, 784)
        inputs *= self.scaling.factor  # (batch, 784)
        inputs += self.scaling.offset  # (batch, 784)
        labels = self.labels[split][index]  # (batch,)
        if learning_rate is None:
            losses, logits = self.model.forward(inputs, labels)  # (batch,), (batch, 10)
        else:
            losses, logits = self.model.train(inputs, labels, learning_rate)
        self._loss_sum += float(losses.sum(dtype=np.float64))
        self._hits += int(np.count_nonzero(logits.argmax(axis=1) == labels))
        self._examples += batch

    def _reset_sums(self) -> None:
        self._loss_sum, self._hits, self._examples = 0.0, 0, 0
