"""What a training gets: its images, its labels, and the digest that tells them apart."""

import dataclasses
import hashlib
import random

import numpy as np
import pytest

from eml.data import specs
from eml.data.datasets import balanced, load
from support import plain, synthetic


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_images_labels_and_digest_are_those_that_the_seed_draws(small_data):
    chance = random.Random(1)
    for _ in range(40):
        name = chance.choice(["mnist", "cifar10"])
        size, _ = synthetic.SIZES[name]
        subset = chance.choice([0, chance.randint(50, size)])
        validation = chance.choice([0, chance.randint(10, (subset or size) // 2)])
        options = {"subset": subset, "seed": chance.randrange(2**32), "validation": validation}
        dataset, expected = load(name, **options), plain.data(name, **options)
        assert dataset.images.keys() == dataset.labels.keys() == expected.keys()
        digests = {}
        for split, (images, labels) in expected.items():
            np.testing.assert_array_equal(dataset.images[split], images, strict=True)
            np.testing.assert_array_equal(dataset.labels[split], labels, strict=True)
            # A whole dataset is described by the files' bytes.
            stored = labels if subset or validation else labels.astype(np.uint8)
            digests[f"{split}_images"] = sha256(images.tobytes())
            digests[f"{split}_labels"] = sha256(stored.tobytes())
        in_order = "".join(digests[key] for key in sorted(digests))
        assert dataset.digest == sha256(in_order.encode())[:32]


@pytest.mark.parametrize("part", [{}, {"subset": 500}, {"validation": 50}])
def test_one_pixel_one_label_or_the_order_changes_the_digest(
    part, small_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path))
    spec, rng = specs.SPECS["mnist"], np.random.default_rng(2)

    def digest_of(arrays: dict) -> str:
        np.savez(tmp_path / "mnist.npz", **arrays)
        digests = {key: sha256(array.tobytes()) for key, array in arrays.items()}
        monkeypatch.setitem(specs.SPECS, "mnist", dataclasses.replace(spec, sha256=digests))
        return load("mnist", **part).digest

    arrays = synthetic.arrays("mnist")
    digests = [digest_of(arrays)]
    for key in ("train_images", "train_labels", "test_images", "test_labels"):
        edited, reordered = arrays[key].copy(), np.roll(arrays[key], 1, axis=0)
        edited.flat[rng.integers(edited.size)] ^= 1
        for changed in (edited, reordered):
            if "validation" in part and key.startswith("test"):  # not a part of that dataset
                assert digest_of(arrays | {key: changed}) == digests[0]
            else:
                digests.append(digest_of(arrays | {key: changed}))
    assert len(set(digests)) == len(digests) == (5 if "validation" in part else 9)


def test_another_seed_is_another_subset_tested_on_the_same_images(small_data):
    datasets = [load("mnist", subset=100, seed=seed) for seed in range(1, 11)]
    assert len({dataset.images["train"].tobytes() for dataset in datasets}) == 10
    assert len({dataset.images["test"].tobytes() for dataset in datasets}) == 1
    assert len({load("mnist", seed=seed).digest for seed in range(1, 11)}) == 1


def test_a_class_that_runs_out_gives_all_it_has():
    labels = np.array([0] * 3 + [1] * 10 + [2] * 10)
    chosen = labels[balanced(labels, 15, np.random.default_rng(1))]
    assert np.bincount(chosen).tolist() == [3, 6, 6]


def test_the_specs_have_the_published_sizes():
    sizes = {
        name: (*spec.image_shape, spec.train_size, spec.test_size)
        for name, spec in specs.SPECS.items()
    }
    assert sizes == {"mnist": (28, 28, 60_000, 10_000), "cifar10": (3, 32, 32, 50_000, 10_000)}
