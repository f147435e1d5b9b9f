"""Loads datasets to train on: whole or as a subset, with a validation split if asked for."""

import hashlib
from dataclasses import dataclass

import numpy as np

from eml.data.cache import fetch, sha256
from eml.data.specs import SPECS, Scaling
from eml.seeds import subset_generator, test_subset_generator, validation_generator


@dataclass(frozen=True)
class Dataset:
    """Images and labels by split: "train", and either "validation" or "test" for evaluation.

    images: uint8, (n, 28, 28) or (n, 3, 32, 32); labels: int64, (n,), 0 to 9.
    digest: 32 hexadecimal digits that change with any image, label, or their order.
    """

    name: str
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    scaling: Scaling
    digest: str


def load(name: str, subset: int = 0, seed: int = 1, validation: int = 0) -> Dataset:
    """Return a dataset from the cache, fetched first if need be.

    subset: number of training images to keep, with a fifth as many test images, balanced over the
        classes as far as possible; 0 keeps all. `seed` decides which training images; the test
        images are the same for all seeds.
    validation: number of training images to hold out, balanced in the same way. They replace the
        test images, because nothing may be chosen on the test images.

    Raises DataError if no source has it intact.
    """
    fetched = fetch(name)
    images = {split: fetched[f"{split}_images"] for split in ("train", "test")}
    labels = {split: fetched[f"{split}_labels"].astype(np.int64) for split in images}
    if subset:
        generators = {"train": subset_generator(seed), "test": test_subset_generator()}
        for split, size in (("train", subset), ("test", subset // 5)):
            chosen = balanced(labels[split], size, generators[split])
            images[split], labels[split] = images[split][chosen], labels[split][chosen]
    if validation:
        held_out = balanced(labels["train"], validation, validation_generator(seed))
        for arrays in (images, labels):
            del arrays["test"]
            arrays["validation"] = arrays["train"][held_out]
            arrays["train"] = np.delete(arrays["train"], held_out, axis=0)
    digests = SPECS[name].sha256
    if subset or validation:
        digests = {f"{s}_images": sha256(images[s]) for s in images}
        digests |= {f"{s}_labels": sha256(labels[s]) for s in labels}
    digest = hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode())
    return Dataset(name, images, labels, SPECS[name].scaling, digest.hexdigest()[:32])


def balanced(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return ascending indices of `size` labels, balanced over the classes as far as possible."""
    by_class = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    rank = np.concatenate([np.arange(len(members)) for members in by_class])
    # The first image of every class, then the second of every class, and so on.
    turn = np.argsort(rank, kind="stable")
    return np.sort(np.concatenate(by_class)[turn][:size])
