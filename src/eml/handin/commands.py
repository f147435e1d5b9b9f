"""The command that trains the runs of a recipe again."""

import shlex
from dataclasses import fields
from typing import Any

import pandas as pd

from eml.config import AUTO, resolve_learning_rate
from eml.handin.evidence import Evidence
from eml.handin.sheet import Trainings

# The field of Config behind an option of another name; an option in the plural has all values.
FIELDS = {
    "lr": "learning_rate",
    "device": "device_type",
    "lrs": "learning_rate",
    "seeds": "seed",
    "optimizers": "optimizer",
    "devices": "device_type",
}


def command(trainings: Trainings, evidence: Evidence) -> str:
    """The recipe's name, with the options that differ from their defaults."""
    rows = evidence.tried if len(evidence.tried) else evidence.history
    parts = [trainings.recipe]
    for option in fields(trainings.of.options):
        name = FIELDS.get(option.name, option.name)
        if name not in rows or option.name == "device":
            continue
        of = evidence.history if name == "seed" else rows
        given = _given(list(of[name].unique()))
        if not _same(given, option.default, rows):
            parts.append(f"--{option.name} {shlex.quote(given)}")
    return " ".join(parts)


def _given(values: list[Any]) -> str:
    return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def _same(given: str, default: Any, rows: pd.DataFrame) -> bool:
    """Whether an option's value means the same as its default."""
    if default == AUTO:
        first = rows.iloc[0]
        return given == f"{resolve_learning_rate(AUTO, first['optimizer'], first['model']):g}"

    def parts(text: str) -> list[str]:
        try:
            return sorted(f"{float(part):g}" for part in text.split(","))
        except ValueError:
            return sorted(text.split(","))

    return parts(given) == parts(str(default))
