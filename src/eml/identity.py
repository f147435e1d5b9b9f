"""What makes two trainings the same one, so that one in the store need not be run again."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from eml.config import Config
from eml.data import SPECS

# The modules whose code decides a result.
MODULES = ("data", "learner", "numpy_mlp", "torch_models", "train")


def training_digest(config: Config) -> str:
    """32 hexadecimal digits that change with the Config, its dataset, and the code that trains.

    Not with package versions or the machine, which change a result by rounding only.
    """
    parts = [asdict(config), SPECS[config.dataset].sha256, _code_digest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code_digest() -> str:
    folder = Path(__file__).parent
    code = b"".join((folder / f"{module}.py").read_bytes() for module in MODULES)
    return hashlib.sha256(code).hexdigest()
