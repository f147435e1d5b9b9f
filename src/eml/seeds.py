"""The random streams of a training: each purpose has a generator of its own.

A stream depends on nothing but the seed (and the epoch), so every device and framework sees the
same subset, weights and batches.
"""

import numpy as np


def order_of(seed: int, epoch: int, images: int) -> np.ndarray:
    """The order of the training images in an epoch (1, 2, ...), int64, shape (images,)."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def subset_generator(seed: int) -> np.random.Generator:
    """Draws the subset of a dataset. Epoch 0, which this stream takes, has no order."""
    return np.random.default_rng([seed, 0])


def test_subset_generator() -> np.random.Generator:
    """Draws the test images of a subset: the same for all seeds."""
    return np.random.default_rng([0, 0, 3])


def weights_generator(seed: int) -> np.random.Generator:
    """Draws the initial weights of the NumPy MLP."""
    return np.random.default_rng([seed, 0, 1])


def validation_generator(seed: int) -> np.random.Generator:
    """Draws the validation images out of the training images."""
    return np.random.default_rng([seed, 0, 2])
