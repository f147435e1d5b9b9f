"""How to train everything again, and where the numbers come from."""

import shlex
from dataclasses import fields
from typing import Any

import pandas as pd

from eml.analysis.fairness import warnings
from eml.config import AUTO, resolve_learning_rate
from eml.handin.evidence import Evidence
from eml.handin.handin import Handin
from eml.handin.sheet import Trainings
from eml.handin.tables import every_run

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


HOW_TO_RUN = """
Beyond the course's own environment the programs need MLflow and a few small packages. The archive
beside this PDF holds the source. In its folder `source`, on the cluster's login node:

```
conda activate em1
python -m venv --system-site-packages .venv && . .venv/bin/activate
pip install -e .
eml data    # fetches and verifies the data, for nodes without a network
```

Then these commands train everything that is shown here:

```
{commands}
```

As jobs of the cluster: add `--launcher slurm` and, where asked for, `--slurm_mem 5GB`. A training
that is longer than a job goes on in the next one (`docs/cluster.md`). `eml compare --plot all`
draws the figures from the store. `eml handin verify {file}.zip` works out every number and figure
of this PDF again.
"""


def how_to_run(handin: Handin) -> str:
    """The steps beyond the course's own environment, and the command of each exercise."""
    made = [each for exercise in handin.exercises for each in exercise.trainings]
    commands = [f"eml {command(each, handin.evidence[each.recipe])}" for each in made]
    if any(exercise.gradients for exercise in handin.exercises):
        commands.insert(0, "eml gradients")
    return HOW_TO_RUN.format(commands="\n".join(commands), file=handin.sheet.file)


def provenance(handin: Handin) -> list[str]:
    """What the runs have in common, or in what they differ, and the warnings about them."""
    lines = []
    for name, title in {
        "git_commit": "commit of the source",
        "dataset_digest": "data digest",
        "hardware": "hardware",
        "threads": "threads",
        "python": "Python",
        "torch": "PyTorch",
        "numpy": "NumPy",
        "mlflow": "MLflow",
    }.items():
        by_value: dict[str, list[str]] = {}
        for recipe, run in every_run(handin):
            if isinstance(run.get(name), str):
                of = by_value.setdefault(run[name], [])
                if recipe not in of:
                    of.append(recipe)
        if len(by_value) == 1:
            lines.append(f"{title}: {next(iter(by_value))}")
        elif by_value:
            each = "; ".join(f"{value} ({', '.join(of)})" for value, of in by_value.items())
            lines.append(f"{title}: {each}")
    stores = {str(run["store"]): None for _, run in every_run(handin) if "store" in run}
    if other := [store for store in stores if store not in ("", "nan")]:
        lines.append(f"some runs were read from other stores: {', '.join(other)}")
    if any(run.get("git_dirty") == "true" for _, run in every_run(handin)):
        lines.append("some runs were trained with uncommitted changes of the source")
    for recipe, evidence in handin.evidence.items():
        for warning in warnings(evidence.history):
            lines.append(f"{recipe}: {warning}")
    return lines
