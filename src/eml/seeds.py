"""The random order that a seed decides."""

import numpy as np


def order_of(seed: int, epoch: int, images: int) -> np.ndarray:
    """The order of the training images in an epoch (1, 2, ...), int64, shape (images,).

    It depends on nothing else, so every device and framework sees the same batches.
    """
    return np.random.default_rng([seed, epoch]).permutation(images)
