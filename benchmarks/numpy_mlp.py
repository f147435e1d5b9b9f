"""An epoch of mlp_numpy against the course's way, and against NumPy's own matrix products.

The course's way is a DataLoader over PIL images with ToTensor and Normalize, feeding the same
NumPy network in float64. The matrix products are those of one step, nothing else, on arrays of the
step's shapes: the time in which NumPy could do it if all the rest were free.

    python -m benchmarks.numpy_mlp            about 4 minutes on two CPU cores

Each is measured in turn, again and again, so that a machine that slows down does so for all.
"""

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter

import click
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from eml.data import Dataset, load
from eml.numpy_mlp import MLP, NumpyLearner, initial_weights, mlp_sizes
from eml.provenance import cpu_name
from eml.recipes import NumpyOptions, mlp_numpy
from eml.train import order_of

SIZES = mlp_sizes(784)


class PILImages:
    """MNIST as torchvision gives it: an image is made with PIL and transformed when asked for."""

    def __init__(self, dataset: Dataset):
        self.images, self.labels = dataset.images["train"], dataset.labels["train"]
        scaling = dataset.scaling
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((scaling.mean,), (scaling.std,))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def courses_way(dataset: Dataset, batch_size: int, learning_rate: float) -> Callable[[], float]:
    """An epoch of the course's way; returns its seconds."""
    loader = DataLoader(PILImages(dataset), batch_size, shuffle=True)
    model = MLP(initial_weights(SIZES, 1), batch_size)

    def epoch() -> float:
        start = perf_counter()
        for images, labels in loader:
            model.forward(images.numpy().reshape(len(images), -1).astype(float), labels.numpy())
            model.step(learning_rate)
        return perf_counter() - start

    return epoch


def ours(dataset: Dataset, **options) -> Callable[[], float]:
    """An epoch of the loop's learner; returns its seconds."""
    (config,) = mlp_numpy(NumpyOptions(**options))
    learner = NumpyLearner(config, dataset)
    order = order_of(1, 1, len(dataset.labels["train"]))

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

    layers = []
    for inputs, outputs in pairwise(SIZES):
        x, gradient = array(batch_size, inputs), array(batch_size, outputs)
        layers.append((x, array(inputs, outputs), gradient))
    results = [tuple(np.empty_like(factor) for factor in layer) for layer in layers]

    def epoch() -> float:
        start = perf_counter()
        for _ in range(images // batch_size):
            for (x, weights, gradient), (to_x, to_weights, to_outputs) in zip(
                layers, results, strict=True
            ):
                np.matmul(x, weights, out=to_outputs)
                np.matmul(x.T, gradient, out=to_weights)
                if x is not layers[0][0]:
                    np.matmul(gradient, weights.T, out=to_x)
        return perf_counter() - start

    return epoch


def operations(images: int) -> int:
    """Floating-point operations of an epoch's matrix products."""
    pairs = list(pairwise(SIZES))
    forward_and_weights = 2 * sum(inputs * outputs for inputs, outputs in pairs)
    to_inputs = sum(inputs * outputs for inputs, outputs in pairs[1:])
    return 2 * images * (forward_and_weights + to_inputs)


@click.command()
@click.option("--repeats", default=5, show_default=True, help="times that each is measured")
def main(repeats: int):
    """Print the median seconds of an epoch each way, and the ratios."""
    dataset = load("mnist")
    options = NumpyOptions()
    images = len(dataset.labels["train"])
    ways = {
        "the course's way": courses_way(dataset, options.batch_size, options.lr),
        "mlp_numpy": ours(dataset),
        "matrix products": matrix_products(images, options.batch_size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, epoch in ways.items():
            taken = epoch()
            if repeat:  # the first warms up
                seconds[name].append(taken)
    click.echo(f"{cpu_name()}, {repeats} repeats in turn, seconds an epoch of {images} images")
    for name, values in seconds.items():
        click.echo(f"{name:18} {median(values):7.3f}  ({min(values):.3f} to {max(values):.3f})")
    ratios = {
        "the course's way / mlp_numpy": ("the course's way", "mlp_numpy"),
        "matrix products / mlp_numpy": ("matrix products", "mlp_numpy"),
    }
    for name, (above, below) in ratios.items():
        pairs = zip(seconds[above], seconds[below], strict=True)
        click.echo(f"{name}: {median(a / b for a, b in pairs):.3g}")
    rate = operations(images) / median(seconds["matrix products"]) / 1e9
    click.echo(f"NumPy's matrix products: {rate:.0f} GFLOP/s in float32")


if __name__ == "__main__":
    main()
