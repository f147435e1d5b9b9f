"""The commands that train everything again, and where the numbers come from."""

import shlex
from dataclasses import fields

from eml.analysis.fairness import warnings
from eml.config import AUTO, resolve_learning_rate
from eml.handin.evidence import Evidence
from eml.handin.handin import Handin
from eml.handin.sheet import Trainings

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


def command(trainings: Trainings, evidence: Evidence) -> str:
    """The recipe's name, with the options that differ from their defaults."""
    rows = evidence.tried if len(evidence.tried) else evidence.history
    first = rows.iloc[0]
    parts = [trainings.recipe]
    for option in fields(trainings.of.options):
        name = FIELDS.get(option.name, option.name)
        if name not in rows:
            continue
        default = str(option.default)
        if default == AUTO:
            default = f"{resolve_learning_rate(AUTO, first['optimizer'], first['model']):g}"
        values = (evidence.history if name == "seed" else rows)[name].unique()
        text = ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
        if _parts(text) != _parts(default):
            parts.append(f"--{option.name} {shlex.quote(text)}")
    return " ".join(parts)


def _parts(text: str) -> list[str]:
    """The values in an option's text, so that equal ones are equal: "1.0,0.5" is "0.5,1"."""
    try:
        return sorted(f"{float(part):g}" for part in text.split(","))
    except ValueError:
        return sorted(text.split(","))


def commands(handin: Handin) -> list[str]:
    """The commands that train the runs."""
    exact = ["eml gradients"] if any(each.gradients for each in handin.exercises) else []
    trained = [f"eml {command(each, handin.evidence[each.recipe])}" for each in handin.trainings]
    return exact + trained


def provenance(handin: Handin) -> list[str]:
    """Commit, data, machines and versions of the runs, and the warnings about them."""
    lines = []
    for name, title in PROVENANCE.items():
        by_value: dict[str, dict[str, None]] = {}  # the recipes of each value, in order
        for recipe, run in handin.runs:
            if isinstance(run.get(name), str):
                by_value.setdefault(run[name], {})[recipe] = None
        if len(by_value) == 1:
            lines.append(f"{title}: {next(iter(by_value))}")
        elif by_value:
            parts = [f"{value} ({', '.join(recipes)})" for value, recipes in by_value.items()]
            lines.append(f"{title}: {'; '.join(parts)}")
    stores = {str(run["store"]): None for _, run in handin.runs if "store" in run}
    if other := [store for store in stores if store not in ("", "nan")]:
        lines.append(f"some runs were read from other stores: {', '.join(other)}")
    for recipe, comparison in handin.comparisons.items():
        lines += [f"{recipe}: {warning}" for warning in warnings(comparison)]
    return lines
