"""What all ways to train an epoch share: the images, the network, the stopwatch."""

from collections.abc import Callable, Iterator
from time import perf_counter

import numpy as np
import torch
from torch import nn

from eml.config import Config
from eml.data.datasets import Dataset
from eml.data.specs import SPECS
from eml.models.numpy_mlp import mlp_sizes
from eml.models.torch_networks import cnn, mlp
from eml.seeds import order_of
from eml.training.loop import load_for

SIZES = mlp_sizes(784)


def dataset_of(config: Config, made_up: bool) -> Dataset:
    """The images of a Config, or as many made up, with which the arithmetic takes as long."""
    if not made_up:
        return load_for(config)
    spec, rng = SPECS[config.dataset], np.random.default_rng(0)
    train = config.subset or spec.train_size
    sizes = {"train": train, "test": train // 5}
    images = {k: rng.integers(256, size=(n, *spec.image_shape)) for k, n in sizes.items()}
    labels = {k: rng.integers(10, size=n) for k, n in sizes.items()}
    images = {k: v.astype(np.uint8) for k, v in images.items()}
    return Dataset(config.dataset, images, labels, spec.scaling, "made up")


def synchronize(config: Config) -> None:
    if config.device_type == "cuda":
        torch.cuda.synchronize()


def timed(config: Config, epoch: Callable[[], object]) -> Callable[[], float]:
    """A function that returns the seconds of an epoch, on the GPU, too."""

    def measure() -> float:
        synchronize(config)
        start = perf_counter()
        epoch()
        synchronize(config)
        return perf_counter() - start

    return measure


def batches_of(config: Config, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches as (batch, inputs) in float32, scaled, and their labels."""
    images, labels = dataset.images["train"], dataset.labels["train"]
    order = order_of(config.seed, 1, len(labels))
    for start in range(0, len(labels), config.batch_size):
        index = order[start : start + config.batch_size]
        scaled = images[index].reshape(len(index), -1).astype(np.float32)
        scaled *= dataset.scaling.factor
        scaled += dataset.scaling.offset
        yield scaled, labels[index]


def whole(config: Config, made_up: bool) -> tuple[np.ndarray, np.ndarray]:
    """All training images as (images, inputs) in float32, scaled, and their labels."""
    batches = list(batches_of(config, dataset_of(config, made_up)))
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return images, labels


def network(config: Config) -> nn.Module:
    """The sheet's network with PyTorch's own layers."""
    return cnn() if config.model == "cnn" else mlp(784, config.activation)
