"""An epoch of mlp_numpy against the course's way, and against NumPy's own matrix products.

The course's way is a DataLoader over torchvision's MNIST, PIL image by image, with ToTensor and
Normalize. It feeds the same network in float64, or a network as one writes it at first: float64, a
new array for every result, the gradient of the images too. The matrix products are those of an
epoch's steps and nothing else, each on arrays of its shape: the time that NumPy would need if all
the rest were free.

    python -m benchmarks.numpy_mlp            about 2 minutes on two CPU cores

Each is measured in turn, again and again, so that a machine that slows down does so for all.
OPENBLAS_NUM_THREADS=1 measures one core, as jobs on a cluster have it.
"""

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter

import click
import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from eml.data import Dataset, load
from eml.numpy_mlp import MLP, NumpyLearner, initial_weights, mlp_sizes
from eml.recipes import NumpyOptions, mlp_numpy
from eml.train import order_of

SIZES = mlp_sizes(784)


class FirstMLP:
    """The network as one writes it at first, from the course's template."""

    def __init__(self):
        weights = initial_weights(SIZES, seed=1)
        self.weights = [weights[f"weights_{number}"] for number in (1, 2, 3)]
        self.biases = [weights[f"bias_{number}"] for number in (1, 2, 3)]

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        targets = np.eye(10)[labels]  # (batch, 10)
        inputs = [images]  # of each layer
        for layer in (0, 1):
            sums = inputs[-1] @ self.weights[layer] + self.biases[layer]
            inputs.append(1 / (1 + np.exp(-sums)))
        sums = inputs[-1] @ self.weights[2] + self.biases[2]
        exponentials = np.exp(sums - sums.max(axis=1, keepdims=True))
        gradient = exponentials / exponentials.sum(axis=1, keepdims=True) - targets
        for layer in (2, 1, 0):
            weights_gradient = inputs[layer].T @ gradient / len(images)
            bias_gradient = gradient.sum(axis=0) / len(images)
            gradient = gradient @ self.weights[layer].T
            if layer:
                gradient = gradient * inputs[layer] * (1 - inputs[layer])
            self.weights[layer] = self.weights[layer] - learning_rate * weights_gradient
            self.biases[layer] = self.biases[layer] - learning_rate * bias_gradient


class SameMLP:
    """The network of mlp_numpy in float64."""

    def __init__(self):
        self.model = MLP(initial_weights(SIZES, seed=1), NumpyOptions.batch_size)

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        self.model.forward(images, labels)
        self.model.step(learning_rate)


def courses_way(dataset: Dataset, network: SameMLP | FirstMLP) -> Callable[[], float]:
    """An epoch of the course's way; returns its seconds."""
    scaling = dataset.scaling
    mnist = MNIST.__new__(MNIST)  # without a look at files: the arrays are here
    mnist.data = torch.from_numpy(dataset.images["train"])
    mnist.targets = torch.from_numpy(dataset.labels["train"])
    mnist.target_transform = None
    mnist.transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((scaling.mean,), (scaling.std,))]
    )
    loader = DataLoader(mnist, NumpyOptions.batch_size, shuffle=True)

    def epoch() -> float:
        start = perf_counter()
        for images, labels in loader:
            inputs = images.numpy().reshape(len(images), -1).astype(np.float64)
            network.train(inputs, labels.numpy(), NumpyOptions.lr)
        return perf_counter() - start

    return epoch


def ours(dataset: Dataset) -> Callable[[], float]:
    """An epoch of mlp_numpy with its defaults; returns its seconds."""
    (config,) = mlp_numpy(NumpyOptions())
    learner = NumpyLearner(config, dataset)
    order = order_of(config.seed, 1, len(dataset.labels["train"]))

    def epoch() -> float:
        start = perf_counter()
        learner.train_epoch(order)
        return perf_counter() - start

    return epoch


def matrix_products(images: int, batch_size: int) -> Callable[[], float]:
    """The matrix products of an epoch in float32; returns their seconds."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    layers = [
        (array(batch_size, inputs), array(inputs, outputs), array(batch_size, outputs))
        for inputs, outputs in pairwise(SIZES)
    ]
    results = [tuple(np.empty_like(factor) for factor in layer) for layer in layers]

    def epoch() -> float:
        start = perf_counter()
        for _ in range(images // batch_size):
            for number, (inputs, weights, gradient) in enumerate(layers):
                to_inputs, to_weights, to_outputs = results[number]
                np.matmul(inputs, weights, out=to_outputs)
                np.matmul(inputs.T, gradient, out=to_weights)
                if number:
                    np.matmul(gradient, weights.T, out=to_inputs)
        return perf_counter() - start

    return epoch


def operations(images: int) -> int:
    """Floating-point operations of those products."""
    products = [inputs * outputs for inputs, outputs in pairwise(SIZES)]
    return 2 * images * (3 * sum(products) - products[0])


@click.command()
@click.option("--repeats", default=5, show_default=True, help="times that each is measured")
def main(repeats: int):
    """Print the median seconds of an epoch each way, and the ratios."""
    dataset = load("mnist")
    images = len(dataset.labels["train"])
    ways = {
        "course, first network": courses_way(dataset, FirstMLP()),
        "course, same network": courses_way(dataset, SameMLP()),
        "mlp_numpy": ours(dataset),
        "matrix products": matrix_products(images, NumpyOptions.batch_size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, epoch in ways.items():
            taken = epoch()
            if repeat:  # the first warms up
                seconds[name].append(taken)
    (config,) = mlp_numpy(NumpyOptions())
    hardware = NumpyLearner(config, dataset).hardware
    click.echo(f"{hardware['hardware']}, {hardware['threads']} threads, {repeats} times in turn")
    click.echo(f"{'seconds an epoch':22} median   lowest  highest   / mlp_numpy")
    for name, values in seconds.items():
        ratio = median(a / b for a, b in zip(values, seconds["mlp_numpy"], strict=True))
        click.echo(
            f"{name:21} {median(values):6.3f}  {min(values):6.3f}  {max(values):7.3f}   {ratio:.2f}"
        )
    rate = operations(images) / median(seconds["matrix products"]) / 1e9
    click.echo(f"NumPy's matrix products: {rate:.0f} GFLOP/s in float32")


if __name__ == "__main__":
    main()
