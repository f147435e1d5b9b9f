"""The commands that train everything again, and where the numbers come from."""

import shlex
from dataclasses import fields

from eml.analysis.fairness import warnings
from eml.config import AUTO, resolve_learning_rate
from eml.handin.evidence import Evidence
from eml.handin.handin import Handin
from eml.handin.sheet import Assignment

# The field of Config behind an option of another name; an option in the plural has all values.
FIELDS = {
    "lr": "learning_rate",
    "lrs": "learning_rate",
    "seeds": "seed",
    "optimizers": "optimizer",
    "devices": "device_type",
}
PROVENANCE = {
    "git_commit": "commit of the source",
    "git_dirty": "uncommitted changes of the source",
    "dataset_digest": "data digest",
    "hardware": "hardware",
    "threads": "threads",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "mlflow": "MLflow",
}


def command(assignment: Assignment, evidence: Evidence) -> str:
    """Return the recipe's name, with the options that differ from their defaults."""
    trainings = evidence.tried.trainings or evidence.final.trainings
    first = trainings[0].values
    parts = [assignment.recipe]
    for option in fields(assignment.of.options):
        name, default = FIELDS.get(option.name, option.name), str(option.default)
        if name not in first:
            continue
        if default == AUTO:
            default = str(resolve_learning_rate(AUTO, first["optimizer"], first["model"]))
        of = evidence.final.trainings if name == "seed" else trainings
        values = dict.fromkeys(training.values[name] for training in of)
        texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        if set(map(_plain, texts)) != set(map(_plain, default.split(","))):
            parts.append(f"--{option.name} {shlex.quote(','.join(texts))}")
    return " ".join(parts)


def _plain(text: str) -> str:
    """Write equal numbers equally: "1.0" is "1"."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def commands(handin: Handin) -> list[str]:
    """Return the commands that train the runs."""
    exact = ["eml gradients"] if any(e.gradients for e in handin.exercises) else []
    return exact + [f"eml {command(a, handin.evidence[a.recipe])}" for a in handin.assignments]


def provenance(handin: Handin) -> list[str]:
    """Return commit, data, machines and versions of the runs, and the warnings about them."""
    lines = []
    for name, title in PROVENANCE.items():
        by_value: dict[str, dict[str, None]] = {}  # the recipes of each value, in order
        for recipe, run in handin.runs:
            if isinstance(run.get(name), str):
                by_value.setdefault(run[name], {})[recipe] = None
        parts = [f"{value} ({', '.join(recipes)})" for value, recipes in by_value.items()]
        if parts:
            lines.append(f"{title}: {'; '.join(parts if len(parts) > 1 else by_value)}")
    stores = dict.fromkeys(store for _, run in handin.runs if (store := run.get("store")))
    if other := [store for store in stores if isinstance(store, str)]:
        lines.append(f"some runs were read from other stores: {', '.join(other)}")
    for recipe, evidence in handin.evidence.items():
        lines += [f"{recipe}: {warning}" for warning in warnings(evidence.final)]
    return lines
