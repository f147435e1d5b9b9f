"""Digests that tell whether two trainings are the same, so that a finished one can be reused."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from eml.config import OPTIMIZERS, Config
from eml.data.specs import SPECS
from eml.recipes.options import RecipeOptions

# The folders and files of the package whose code decides a result.
CODE = ("models", "training/loop.py", "data/datasets.py", "data/specs.py", "seeds.py")


def training_digest(config: Config) -> str:
    """32 hexadecimal digits that change with the Config, its dataset, and the training code.

    Package versions and the machine change a result by rounding only and do not count.
    """
    optimizer_class = OPTIMIZERS[config.optimizer].torch_class
    parts = [asdict(config), SPECS[config.dataset].sha256, optimizer_class, _code_digest()]
    return _digest(parts)


def plan_digest(recipe: str, configs: Sequence[Config], options: RecipeOptions) -> str:
    """32 hexadecimal digits that change with the trainings of a recipe, not with their launcher."""
    what = {k: v for k, v in asdict(options).items() if k not in options.how}
    parts = [recipe, [training_digest(config) for config in configs], what]
    return _digest(parts)


def _digest(parts: list) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code_digest() -> str:
    package = Path(__file__).parents[1]
    files = [file for part in CODE for file in _python_files(package / part)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _python_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]
