"""Small datasets that can be learned, in the cache's own format, and their specs.

`write` makes them; `install` makes eml take them for MNIST and CIFAR-10, in this process or,
through site/sitecustomize.py, in one that a test starts.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from eml.data.specs import Spec

SIZES = {"mnist": (500, 100), "cifar10": (300, 60)}
SHAPES = {"mnist": (28, 28), "cifar10": (3, 32, 32)}


def arrays(name: str) -> dict[str, np.ndarray]:
    """Ten noisy patterns; class 0 is rarer than the others."""
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 200, (10, *SHAPES[name]))
    made = {}
    for split, size in zip(("train", "test"), SIZES[name], strict=True):
        labels = np.arange(size) % 10
        labels[: size // 20 : 10] = 1
        images = patterns[labels] + rng.integers(0, 56, (size, *SHAPES[name]))
        made[f"{split}_images"] = images.astype(np.uint8)
        made[f"{split}_labels"] = labels.astype(np.uint8)
    return made


def write(folder: Path) -> Path:
    """Write both caches into `folder`, and specs.json, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    specs = {}
    for name in SIZES:
        made = arrays(name)
        np.savez(folder / f"{name}.npz", **made)  # type: ignore[arg-type]
        specs[name] = {
            "train_size": SIZES[name][0],
            "test_size": SIZES[name][1],
            "sha256": {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in made.items()},
        }
    file = folder / "specs.json"
    file.write_text(json.dumps(specs))
    return file


def install(specs_file: Path, specs: dict[str, Spec]) -> dict[str, Spec]:
    """The entries of `eml.data.specs.SPECS` with the sizes and digests of `specs_file`."""
    changes = json.loads(Path(specs_file).read_text())
    return {name: dataclasses.replace(specs[name], **change) for name, change in changes.items()}
