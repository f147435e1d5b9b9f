"""Every number of `handin numbers` against the tables of mlflow.db, of random stores with traps."""

import re

import pytest

from eml.handin.content import compose
from eml.handin.handin import Handin, load
from support.commands import run_here
from support.expected_numbers import expected_numbers
from support.handins import form_of
from support.random_runs import name_runs, written
from support.tables import WORDS, Stored

SHEETS = {"ex2-2025": {"mlp_numpy", "lr_sweep"}}
SHEETS["ex3-2025"] = {"cpu_vs_gpu", "mlp_vs_cnn", "optimizers"}


def says(text: str, kind: str, value: float) -> bool:
    """Whether a number is printed right, to the last digit. kind: or the text itself."""
    if kind in ("per cent", "points"):
        form = r"\d+\.\d\d\xa0%" if kind == "per cent" else r"[+-]\d+\.\d\d"
        in_form = re.fullmatch(form, text) is not None
        return in_form and abs(float(text.rstrip("\xa0%")) - 100 * value) <= 0.005 + 1e-9
    if kind == "digits" and value < 100:
        return float(text) == float(f"{value:.2e}")
    if kind in ("digits", "thousands"):
        return text == f"{round(value):,}"
    if kind == "plain":
        return float(text) == value
    return text == (str(value) if kind == "whole" else kind)


# Seeds with a curve of which all diverge, gaps in the clocks, and a rate without an accuracy.
@pytest.mark.parametrize("seed", [11, 24])
def test_every_number_of_a_handin_is_what_the_tables_give(seed, store, tmp_path):
    runs = written(store, tmp_path, seed)
    for sheet, recipes in SHEETS.items():
        form_of(sheet, tmp_path, name_runs(runs))
        file = tmp_path / "handin.toml"
        printed = run_here("handin", "numbers", "--file", str(file))
        assert (printed.returncode, printed.stderr) == (0, "")
        texts = dict(re.findall(r"^\{\{(.+?)\}\}  (.*)$", printed.stdout, re.MULTILINE))
        made = load(file).numbers
        theirs = {name for name in texts if not name.startswith("gradients.")}
        expected = {}
        for recipe in recipes:
            expected |= expected_numbers(recipe, runs[recipe])
        judged = {name for name in theirs if re.search(r"\.(final_)?(low|high)(_to_.*)?$", name)}
        assert theirs - judged == expected.keys()
        for name, (kind, value, ids) in expected.items():
            assert made[name].value == pytest.approx(value, rel=1e-9), name
            assert made[name].runs == ids, name
            assert says(texts[name], kind, value), (name, texts[name], value)
        of_rates = [stars(runs["optimizers"], texts)] if "optimizers" in recipes else []
        assert tables_of_rates(load(file)) == of_rates


def tables_of_rates(handin: Handin) -> list[dict[tuple[str, str], str]]:
    """The cells of the tables of rates tried in the PDF, by optimizer and rate."""
    tables = [table for answer in compose(handin)["answers"] for table in answer["results"]]
    return [
        {
            (name, rate): cell
            for name, *cells in table["rows"]
            for rate, cell in zip(table["header"][1:], cells, strict=True)
            if cell != "-"
        }
        for table in tables
        if table["caption"].startswith("Learning rates tried")
    ]


def stars(runs: list[Stored], texts: dict[str, str]) -> dict[tuple[str, str], str]:
    """The accuracy of each rate tried; a star: there are final trainings, a dagger: it diverged."""
    final = {(r.config["optimizer"], r.config["learning_rate"]) for r in runs if r.split == "test"}
    diverged = {
        (r.config["optimizer"], r.config["learning_rate"])
        for r in runs
        if r.split == "validation" and r.diverged is not None
    }
    tried = [name.split(".", 3)[2:] for name in texts if name.startswith("optimizers.searched.")]
    return {
        (WORDS[name], rate): texts[f"optimizers.searched.{name}.{rate}"]
        + (" *" if (name, rate) in final else "")
        + (" †" if (name, rate) in diverged else "")
        for name, rate in tried
    }
