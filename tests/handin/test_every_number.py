"""Every number of `compare` and of `handin numbers` against the tables of mlflow.db."""

import csv
import itertools
import json
import math
import re
from random import Random

import pytest

from eml.handin.form import write_form
from eml.handin.handin import load
from support import tables
from support.commands import run_here
from support.handins import change_form
from support.random_runs import RandomRuns, all_recipes
from support.tables import (
    CHANCE,
    Stored,
    curves,
    differing,
    mean,
    mean_curve,
    median,
    parsed,
    scores,
)

TARGETS = (0.3, 0.55)
WORDS = {"cpu": "CPU", "cuda": "GPU", "mlp": "MLP", "cnn": "CNN"}
JUDGED = ("final_low", "final_high", "not_separable_from", "seconds_not_separable_from")
SHEETS = {"ex2-2025": {"mlp_numpy", "lr_sweep"}}
SHEETS["ex3-2025"] = {"cpu_vs_gpu", "mlp_vs_cnn", "optimizers"}
VARIES = {"lr_sweep": "learning_rate", "cpu_vs_gpu": "device_type", "mlp_vs_cnn": "model"}


def label(curve: list[Stored], names: list[str]) -> str:
    texts = {name: WORDS.get(text, text) for name, text in curve[0].params.items()}
    parts = [texts[name] for name in ("model", "device_type", "optimizer") if name in names]
    if "learning_rate" in names or "optimizer" in names:
        parts.append(f"learning rate {texts['learning_rate']}")
    return ", ".join([*parts, *[f"epochs {texts['epochs']}"] * ("epochs" in names)])


def summary_row(curve: list[Stored], targets=TARGETS) -> dict[str, object]:
    complete, split = [run for run in curve if run.complete], curve[0].split
    finals, bests = scores(curve), scores(curve, "best")
    seconds = sorted(value for run in curve for value in run.epoch_seconds)
    best_epochs = [
        next(epoch for epoch, value in run.scored if value == run.score("best")) for run in complete
    ]
    row = {
        "n": len(curve),
        "complete": len(complete),
        f"final_{split}_accuracy": mean(finals),
        "final_lowest": min(finals, default=math.nan),
        "final_highest": max(finals, default=math.nan),
        f"best_{split}_accuracy": mean(bests),
        "best_epoch": ", ".join(map(str, best_epochs)),
        "epochs": curve[0].planned,
        "train_seconds_per_epoch": mean(seconds),
        "seconds_lowest": seconds[(len(seconds) - 1) // 10] if seconds else math.nan,
        "seconds_highest": seconds[-((len(seconds) - 1) // 10) - 1] if seconds else math.nan,
        "parameters": 468874,
        "diverged": named(curve, "diverged", "in epoch"),
        "unfinished": named([run for run in curve if run.unfinished], "last", "after epoch"),
        "run_ids": " ".join(run.run_id for run in curve),
    }
    for target in targets:
        row |= {f"{name}_{target}": value for name, value in reached(curve, target).items()}
    return row


def named(curve: list[Stored], name: str, at: str) -> str:
    epochs = [(run.seed, getattr(run, name)) for run in curve]
    return ", ".join(f"seed {seed} {at} {epoch}" for seed, epoch in epochs if epoch is not None)


def reached(curve: list[Stored], target: float) -> dict[str, float]:
    """A seed reaches a target in the first of three epochs in a row; a diverged one never."""
    epochs, seconds, touches = [], [], []
    for run in curve:
        touches += [epoch for epoch, value in run.scored if value >= target][:1]
        threes = zip(run.scored, run.scored[1:], run.scored[2:], strict=False)
        held = [three[0][0] for three in threes if min(value for _, value in three) >= target]
        if held and run.diverged is None:
            epochs.append(held[0])
            seconds.append(run.points.get("train_seconds", {}).get(held[0], math.nan))
    misses = [math.inf] * (len(curve) - len(epochs))
    return {
        "epochs_to": median(epochs + misses),
        "seconds_to": median(seconds + misses),
        "reached": len(epochs),
        "first_touch": min(touches, default=math.nan),
    }


def numbers_of(curve: list[Stored]) -> dict[str, tuple[str, float]]:
    """By name: how the number is printed, and its value; without what does not exist."""
    row, params = summary_row(curve), curve[0].params
    numbers = {
        "n": ("whole", row["n"]),
        "epochs": ("whole", row["epochs"]),
        "batch_size": ("whole", int(params["batch_size"])),
        "learning_rate": ("plain", float(params["learning_rate"])),
        "parameters": ("thousands", row["parameters"]),
        "final_test_accuracy": ("per cent", row["final_test_accuracy"]),
        "best_test_accuracy": ("per cent", row["best_test_accuracy"]),
        "final_lowest": ("per cent", row["final_lowest"]),
        "final_highest": ("per cent", row["final_highest"]),
        "diverged_in_epoch": (
            "whole",
            next((run.diverged for run in curve if run.diverged is not None), math.nan),
        ),
        "best_epoch": (row["best_epoch"], float((row["best_epoch"] or "nan").split(",")[0])),
        "seconds_per_epoch": ("digits", row["train_seconds_per_epoch"]),
    }
    if any(run.epoch_seconds for run in curve):
        clocks = [run.points["train_seconds"] for run in curve if "train_seconds" in run.points]
        numbers["train_seconds"] = ("digits", mean([max(clock.values()) for clock in clocks]))
    for loss in ("train_loss", "test_loss"):
        means = list(mean_curve(curve, loss).items())
        for epoch, value in [min(means, key=lambda point: point[1])] if means else []:
            numbers[f"initial_{loss}"] = ("digits", means[0][1])
            numbers[f"final_{loss}"] = ("digits", means[-1][1])
            numbers[f"lowest_{loss}"] = ("digits", value)
            numbers[f"lowest_{loss}_epoch"] = ("whole", epoch)
    return {name: number for name, number in numbers.items() if not math.isnan(number[1])}


def numbers_of_pair(one: list[Stored], other: list[Stored]) -> dict[str, tuple[str, float]]:
    score_of = {run.seed: run.score() for run in other}
    differences = [
        run.score() - score_of[run.seed]
        for run in one
        if not math.isnan(run.score() - score_of.get(run.seed, math.nan))
    ]
    seconds = [mean([s for run in curve for s in run.epoch_seconds]) for curve in (one, other)]
    numbers = {
        "difference": ("points", mean(differences)),
        "seconds_ratio": ("digits", seconds[0] / seconds[1]),
    }
    return {name: number for name, number in numbers.items() if not math.isnan(number[1])}


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


@pytest.fixture
def written(store, tmp_path):
    """Writes random trainings for both sheets; gives the compared ones as the tables have them."""

    def write(seed: int) -> dict[str, list[Stored]]:
        ids = all_recipes(RandomRuns(store, Random(seed)))
        runs = tables.read(tmp_path / "mlflow.db").values()
        of = {run.run_id: run.tags.get("mlflow.parentRunId", run.run_id) for run in runs}
        return {
            recipe: tables.compared([run for run in runs if of[run.run_id] in tops and run.params])
            for recipe, tops in ids.items()
        }

    return write


def agree(expected: object, theirs: object) -> bool:
    """Whether a cell is the value. "" is a missing number; JSON has null for infinity, too."""
    if isinstance(expected, str) and not isinstance(theirs, float | int):
        return (theirs or "") == expected
    theirs = math.nan if theirs in ("", None) else float(theirs)
    return theirs == pytest.approx(float(expected), rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_summary_is_what_the_tables_give(seed, written, png_only, tmp_path):
    runs = written(seed)
    runs["search"] = [run for run in runs["optimizers"] if run.split == "validation"]
    runs["optimizers"] = [run for run in runs["optimizers"] if run.split == "test"]
    for recipe, of in runs.items():
        names = differing(of)
        done = run_here(
            *("compare", "--json", "true", "--output", str(tmp_path / recipe), "--x", "epoch"),
            *("--metric", "train_loss", "--target", ",".join(map(str, TARGETS))),
            *("--runs", ",".join(run.run_id for run in of)),
        )
        assert done.returncode == 0, done.stderr
        table = json.loads(done.stdout)["comparisons"][0]["summary"]
        with open(tmp_path / recipe / "summary.csv") as file:
            texts = list(csv.DictReader(file))
        for curve, cells, text in zip(curves(of, names), table, texts, strict=True):
            row = {name: parsed(curve[0].params[name]) for name in names} | summary_row(curve)
            row["curve"] = label(curve, names) or "all runs"
            assert cells.keys() == text.keys() == row.keys() | set(JUDGED)
            for name, expected in row.items():
                assert agree(expected, text[name]), (recipe, name, expected, text[name])
                in_json = math.nan if expected == math.inf else expected
                assert agree(in_json, cells[name]), (recipe, name, expected, cells[name])


def starts(recipe: str, of: list[list[Stored]], names: list[str]) -> list[str]:
    """The beginnings of the names of the curves' numbers."""
    if recipe == "mlp_numpy":
        return [recipe]
    varied = [curve[0].params[VARIES.get(recipe, "optimizer")] for curve in of]
    if len(set(varied)) < len(of):
        varied = [re.sub(r"[^\w.]+", "_", label(curve, names)) for curve in of]
    return [f"{recipe}.{text}" for text in varied]


def expected_numbers(recipe: str, runs: list[Stored]) -> dict[str, tuple[str, float, tuple]]:
    """By name: how a number of `handin numbers` is printed, its value and its runs."""
    finals = [run for run in runs if run.split == "test"]
    names = differing(finals)
    of = curves(finals, names)
    by_start = dict(zip(starts(recipe, of, names), of, strict=True))
    numbers = {
        f"{start}.{name}": (*number, tuple(run.run_id for run in curve))
        for start, curve in by_start.items()
        for name, number in numbers_of(curve).items()
    }
    for (one, curve), (other, second) in itertools.permutations(by_start.items(), 2):
        ids = tuple(run.run_id for run in curve + second)
        for name, number in numbers_of_pair(curve, second).items():
            numbers[f"{one}.{name}_to_{other.removeprefix(recipe + '.')}"] = (*number, ids)
    for run in runs:
        accuracy = run.scored[-1][1] if run.scored else math.nan
        accuracy = CHANCE if run.diverged is not None else accuracy
        if run.split == "validation" and not math.isnan(accuracy):
            rate = f"{run.params['optimizer']}.{run.params['learning_rate']}"
            numbers[f"{recipe}.tried.{rate}"] = ("per cent", accuracy, (run.run_id,))
    return numbers


@pytest.mark.parametrize("seed", [3, 5])
def test_every_number_of_a_handin_is_what_the_tables_give(seed, written, tmp_path):
    runs = written(seed)
    for sheet, recipes in SHEETS.items():
        file = tmp_path / sheet / "handin.toml"
        write_form(file, sheet)

        def name_runs(form, recipes=recipes):
            for exercise in form["exercise"].values():
                for recipe in recipes & exercise.keys():
                    exercise[recipe]["runs"] = [run.run_id for run in runs[recipe]]

        change_form(file, name_runs)
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
