"""Runs that eml did not make: judged by what they hold, and named where that is not enough."""

import math
import re
from pathlib import Path

import pytest

from eml.analysis.comparison import Comparison
from eml.analysis.options import Selection
from eml.errors import UserError
from eml.tracking.history import load_history
from support.commands import add_training

RISING = [0.1, 0.5, 0.7, 0.9]  # accuracies after the epochs 0 to 3


def add(client, *, recipe=None, params=None, **points) -> str:
    """A finished run of three epochs, by default without `recipe` as tag or parameter."""
    params = {"recipe": recipe} | (params or {})
    run_id = add_training(client, params=params, points=points, epochs=3)
    client.delete_tag(run_id, "recipe")
    return run_id


def training(*run_ids):
    return Comparison(load_history(Selection(runs=",".join(run_ids)))[0]).trainings[0]


def test_accuracies_and_times_alone_are_compared(store, eml):
    """What hand-ins keep: no recipe, no losses. The default metrics are those that there are."""
    theirs = add(store, test_accuracy=RISING, train_seconds=[0, 2, 4, 6])
    add_training(store, seed=2)
    for number, options in enumerate((["--runs", theirs], ["--filter", "params.epochs != '9'"])):
        result = eml("compare", "--output", f"out{number}", *options)
        assert result.returncode == 0, result.stderr
        assert "diverged" not in result.stdout
    only = training(theirs)
    assert (only.complete, only.diverged, only.score("last")) == (True, None, 0.9)
    assert theirs in Path("out1/summary.csv").read_text()
    assert {file.name for file in Path("out0").glob("*.png")} == {
        "test_accuracy_over_epochs.png",
        "test_accuracy_over_train_seconds.png",
    }
    losses = add(store, train_loss=[2.0, 1.0, 0.5, 0.4], params={"seed": 3})
    result = eml("compare", "--runs", losses)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\| none +\|", result.stdout)


@pytest.mark.parametrize(
    ("points", "tag", "diverged"),
    [
        ({"train_loss": [2.0, 1.0, math.nan, math.nan]}, "", 2),
        ({"test_loss": [2.0, 1.0, math.inf, 0.5]}, "", 2),  # which the store gives back as 1.8e308
        ({}, "epoch 2", 2),
        ({}, "true", 3),
        ({}, "False", None),
        ({"train_loss": [2.0, 1.0, None, None]}, "", None),
    ],
)
def test_diverged_is_what_was_logged_or_tagged(points, tag, diverged, store):
    run_id = add(store, **{"test_accuracy": RISING} | points)
    store.set_tag(run_id, "diverged", tag)
    assert training(run_id).diverged == diverged
    assert training(run_id).score("last") == (0.9 if diverged is None else 0.1)
    frame, _ = load_history(Selection(runs=run_id))
    assert not (frame[["train_loss", "test_loss"]] > 1e300).any(axis=None)


def test_an_epoch_without_an_accuracy_is_a_gap(store, eml):
    seconds = [0, 1, 2, 3]
    run_id = add(store, test_accuracy=[0.1, None, 0.7], train_loss=RISING, train_seconds=seconds)
    (gap,) = [training(run_id)]
    assert (gap.complete, gap.score("last"), gap.score("best")) == (True, 0.7, 0.7)
    result = eml("compare", "--runs", run_id)
    assert result.returncode == 0, result.stderr
    assert "the last accuracy, of epoch 2, counts: " in result.stdout


def test_missing_parameters_are_named_at_once(store):
    lacking = dict.fromkeys(["framework", "activation", "seed"])
    run_id = add(store, test_accuracy=RISING, params=lacking)
    reason = r"parameters missing: framework, activation, seed \(docs/comparing.md\)"
    with pytest.raises(UserError, match=f"left out, {reason}: {run_id}"):
        training(run_id)


def test_the_hint_fits_what_was_given_and_what_is_there(store, eml):
    store.create_experiment("other")
    line = eml("compare", "--experiment", "other").stderr
    assert "no finished training of a recipe in the experiment other of sqlite" in line
    parent = store.create_run("1", tags={"recipe": "lr_sweep"}).info.run_id
    add_training(store, "mlp_numpy", tags={"mlflow.parentRunId": parent})
    store.set_terminated(parent)
    store.delete_run(parent)
    for options in ([], ["--recipe", "lr_sweep"], ["--experiment", "other"]):
        line = eml("compare", *options).stderr
        assert line.endswith("give another experiment or recipe, or runs or filter\n"), line
    line = eml("compare", "--filter", "params.lr = '0.1'").stderr
    assert "no such run; parameters are recipe, " in line
    assert "learning_rate (lr), " in line
