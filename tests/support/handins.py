"""Hand-ins made by hand: filled-in forms, and evidence from histories without a store."""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from eml.handin.evidence import Evidence, csv_of, of_csv
from eml.handin.form import parse_form, write_form
from eml.handin.handin import Handin
from support.histories import run, together

EPOCHS = 30
RATES = (1.0, 0.5, 0.1, 0.05, 0.001)
Change = Callable[[Any], None]  # of a form


def rising(top: float, epochs: int = EPOCHS) -> list[float]:
    """Accuracies from 0.1 towards `top`, one for each epoch."""
    return [round(0.1 + (top - 0.1) * epoch / epochs, 4) for epoch in range(epochs + 1)]


def falling(bottom: float, epochs: int = EPOCHS) -> list[float]:
    """Losses from 2.3 to `bottom`."""
    return [2.3 + (bottom - 2.3) * epoch / epochs for epoch in range(epochs + 1)]


def evidence(*runs: pd.DataFrame, recipe: str = "lr_sweep") -> Evidence:
    return of_csv(csv_of(together(*runs)), recipe, "a test")


def mlp_numpy(**options: Any) -> pd.DataFrame:
    options = {"accuracies": rising(0.98), "losses": falling(0.06)} | options
    accuracies = options.pop("accuracies")
    return run("1" * 32, accuracies, **options)


def lr_sweep(rates: Sequence[float] = RATES, **options: Any) -> list[pd.DataFrame]:
    return [
        run(f"{number:032x}", rising(0.9 + 0.08 * rate), lr=rate, **options)
        for number, rate in enumerate(rates, start=10)
    ]


def sheet2() -> dict[str, Evidence]:
    """Evidence with which sheet 2 meets all rules."""
    return {
        "mlp_numpy": evidence(mlp_numpy(), recipe="mlp_numpy"),
        "lr_sweep": evidence(*lr_sweep()),
    }


UNSCALED = {"scaling_mean": 0.0, "scaling_std": 1.0}


def torch_run(run_id: str, top: float, *, seconds: float = 2.0, **fields: Any) -> pd.DataFrame:
    """A whole training in PyTorch; fields: of its Config."""
    optimizer = fields.pop("optimizer", "sgd")
    rows = run(run_id * 32, rising(top), optimizer=optimizer, seconds=seconds, lr="0.1")
    return rows.assign(**(UNSCALED | fields))


def grid(optimizer: str, rates: Sequence[float], number: int) -> list[pd.DataFrame]:
    """The trainings of a search, on validation images."""
    return [
        run(
            f"{number + i:032x}",
            rising(0.5 - 0.1 * i),
            optimizer=optimizer,
            lr=str(rate),
            validation=5000,
        ).assign(**UNSCALED)
        for i, rate in enumerate(rates)
    ]


def optimizers(
    names: Sequence[str] = ("sgd", "adam", "rmsprop"), rates: Sequence[float] = (0.1, 0.01)
) -> list[pd.DataFrame]:
    runs = []
    for number, name in enumerate(names):
        runs += grid(name, rates, 16 * (number + 1))
        runs.append(
            torch_run("abcdef"[number], 0.6 + 0.02 * number, optimizer=name, learning_rate=rates[0])
        )
    return runs


def sheet3() -> dict[str, Evidence]:
    """Evidence with which sheet 3 meets all rules."""
    on_mnist: dict[str, Any] = {
        "dataset": "mnist",
        "model": "mlp",
        "activation": "sigmoid",
        "learning_rate": 0.1,
    }
    runs_of = {
        "cpu_vs_gpu": [
            torch_run("2", 0.98, **on_mnist),
            torch_run("3", 0.98, seconds=0.5, device_type="cuda", hardware="a GPU", **on_mnist),
        ],
        "mlp_vs_cnn": [
            torch_run("4", 0.42, seconds=1, model="mlp", activation="sigmoid"),
            torch_run("5", 0.62, seconds=10),
        ],
        "optimizers": optimizers(),
    }
    return {recipe: evidence(*runs, recipe=recipe) for recipe, runs in runs_of.items()}


def fill_in(form: Any) -> None:
    """Everything that a group has to write."""
    form["names"] = ["Ada Lovelace", "Alan Turing"]
    form["date"] = date(2025, 11, 4)
    for exercise in form["exercise"].values():
        exercise["present"] = True
        if "review" in exercise:
            exercise["review"] = "A library *similar in intent* to BLAS."
        for plots in exercise.values():
            for plot in plots.values() if isinstance(plots, dict) else ():
                if isinstance(plot, dict):
                    plot |= {"expected": "A curve that rises.", "discussion": "As expected."}


def form_of(sheet: str, folder: Path, *changes: Change) -> bytes:
    """A form that is filled in and then changed, written to handin.toml in `folder`."""
    file = folder / "handin.toml"
    file.unlink(missing_ok=True)
    write_form(file, sheet)
    for change in (fill_in, *changes):
        change_form(file, change)
    return file.read_bytes()


def change_form(file: Path, change: Change) -> None:
    form = tomllib.loads(file.read_text())
    change(form)
    file.write_text("".join(_toml(form)))


def _toml(table: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Yield the lines of a table, then those of the tables in it."""
    yield f"[{name}]\n" if name else ""
    for key, value in table.items():
        if not isinstance(value, dict):
            text = value if isinstance(value, date) else json.dumps(value, ensure_ascii=False)
            yield f"{key} = {text}\n"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _toml(value, f"{name}.{json.dumps(key)}".lstrip("."))


def handin(
    sheet: str, folder: Path, *changes: Change, of: Mapping[str, Evidence] | None = None
) -> Handin:
    """A complete hand-in of ex2-2025 or ex3-2025, but for the changes."""
    form = parse_form(form_of(sheet, folder, *changes), "handin.toml")
    evidence_of = {"ex2-2025": sheet2, "ex3-2025": sheet3}[sheet]()
    return Handin(form, evidence_of | dict(of or {}), lambda path: (folder / path).read_bytes())
