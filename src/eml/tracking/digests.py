"""Digests that tell whether two trainings are the same, so that a finished one can be reused."""

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from eml.config import Config
from eml.data.specs import SPECS
from eml.models.optimizers import OPTIMIZERS
from eml.recipes.recipe import RecipeOptions

# The modules whose code decides a result. Of the tables of datasets and optimizers a training takes
# one row, which training_digest() adds.
MODULES = (
    "data/datasets.py",
    "models/learner.py",
    "models/numpy_mlp.py",
    "models/own_mlp.py",
    "models/torch_learner.py",
    "models/torch_networks.py",
    "seeds.py",
    "training/loop.py",
)


def training_digest(config: Config) -> str:
    """32 hexadecimal digits that change with the Config, its dataset, and the training code.

    Package versions and the machine change a result by rounding only and do not count.
    """
    spec, optimizer = SPECS[config.dataset], OPTIMIZERS[config.optimizer]
    data = [spec.sha256, spec.scaling.factor, spec.scaling.offset]
    return _digest([asdict(config), data, optimizer.made_by, optimizer.options, _code_digest()])


def plan_digest(recipe: str, configs: Sequence[Config], options: RecipeOptions) -> str:
    """32 hexadecimal digits that change with the trainings of a recipe, not with their launcher."""
    what = {k: v for k, v in asdict(options).items() if k not in options.how}
    return _digest([recipe, [training_digest(config) for config in configs], what])


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code_digest() -> str:
    package = Path(__file__).parents[1]
    code = [ast.parse((package / name).read_bytes()) for name in MODULES]
    return _digest(_essence(code))


def _essence(code: Any) -> Any:
    """Nested lists of the syntax without comments, docstrings and formatting.

    Equal in every version of Python, unlike ast.dump: fields that are empty are left out, because
    later versions added some.
    """
    match code:
        case list():
            return [essence for node in code if (essence := _essence(node)) is not None]
        case ast.Expr(ast.Constant(str())):  # a docstring
            return None
        case ast.AST():
            fields = [(n, value) for n, value in ast.iter_fields(code) if value not in (None, [])]
            return [type(code).__name__, [[name, _essence(value)] for name, value in fields]]
    return repr(code)
