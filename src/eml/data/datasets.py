"""Datasets ready to train on: subsets, and a validation split."""

import hashlib
from dataclasses import dataclass

import numpy as np

from eml.data.cache import fetch, sha256
from eml.data.specs import SPECS, Scaling
from eml.seeds import subset_generator, validation_generator


@dataclass(frozen=True)
class Dataset:
    """Images and labels by split: "train", and "validation" or "test" to evaluate on.

    images: uint8, (n, 28, 28) or (n, 3, 32, 32); labels: int64, (n,), 0 to 9.
    digest: 32 hexadecimal digits that change with any image, label, or their order.
    """

    name: str
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    scaling: Scaling
    digest: str


def load(name: str, subset: int = 0, seed: int = 1, validation: int = 0) -> Dataset:
    """A dataset from the cache, fetched first if need be.

    subset: keep that many training images and a fifth as many test images, as equally many of
        each class as there are; 0 keeps all. The same `seed` takes the same images.
    validation: hold that many of the training images out, balanced likewise, and give them in
        place of the test images, which nobody who chooses anything should see.

    Raises DataError if no source has it intact.
    """
    fetched = fetch(name)
    images: dict[str, np.ndarray] = {
        split: fetched[f"{split}_images"] for split in ("train", "test")
    }
    labels: dict[str, np.ndarray] = {
        split: fetched[f"{split}_labels"].astype(np.int64) for split in ("train", "test")
    }
    digests = SPECS[name].sha256
    if subset:
        rng = subset_generator(seed)
        for split, size in (("train", subset), ("test", subset // 5)):
            chosen = balanced(labels[split], size, rng)
            images[split] = images[split][chosen]
            labels[split] = labels[split][chosen]
    if validation:
        rng = validation_generator(seed)
        held_out = np.zeros(len(labels["train"]), bool)
        held_out[balanced(labels["train"], validation, rng)] = True
        for arrays in (images, labels):
            del arrays["test"]
            arrays["validation"] = arrays["train"][held_out]
            arrays["train"] = arrays["train"][~held_out]
    if subset or validation:
        digests = {f"{s}_images": sha256(images[s]) for s in images}
        digests |= {f"{s}_labels": sha256(labels[s]) for s in labels}
    digest = hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode())
    return Dataset(name, images, labels, SPECS[name].scaling, digest.hexdigest()[:32])


def balanced(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `size` labels, ascending, as equally many of each class as there are.

    All labels if there are not as many as `size`.
    """
    by_class = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    rank = np.concatenate([np.arange(len(members)) for members in by_class])
    # Every class's first image, then every class's second, ...; a class that runs out drops out.
    turn = np.argsort(rank, kind="stable")
    return np.sort(np.concatenate(by_class)[turn][:size])
