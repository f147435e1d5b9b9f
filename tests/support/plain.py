"""The trainings as one writes them by hand, in double precision: the reference of the tests.

Nothing is taken from eml: data, random streams, networks and scores are written out once more.
"""

from itertools import zip_longest

import numpy as np

from support import synthetic

Data = dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels of each split


def chosen(labels: np.ndarray, size: int, stream: list[int]) -> list[int]:
    """The indices of `size` labels: one of each class in turn, at random within a class."""
    rng = np.random.default_rng(stream)
    piles = [
        rng.permutation([index for index, label in enumerate(labels) if label == number])
        for number in range(10)
    ]
    turns = [index for turn in zip_longest(*piles) for index in turn if index is not None]
    return sorted(turns[:size])


def data(dataset: str, subset: int, seed: int, validation: int) -> Data:
    """The images and labels that a training with these values gets, of the synthetic datasets."""
    made = synthetic.arrays(dataset)
    splits = {s: (made[f"{s}_images"], made[f"{s}_labels"].astype(int)) for s in ("train", "test")}
    if subset:
        for split, size, stream in (("train", subset, [seed, 0]), ("test", subset // 5, [0, 0, 3])):
            images, labels = splits[split]
            kept = chosen(labels, size, stream)
            splits[split] = images[kept], labels[kept]
    if validation:
        images, labels = splits["train"]
        held_out = chosen(labels, validation, [seed, 0, 2])
        kept = [index for index in range(len(labels)) if index not in held_out]
        splits = {"train": (images[kept], labels[kept])}
        splits["validation"] = images[held_out], labels[held_out]
    return splits
