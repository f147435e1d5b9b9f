"""Whatever run a user may meet, `compare` draws or names it, and its neighbour is right."""

import math
from functools import partial
from pathlib import Path

import pytest

from eml.analysis.comparison import Comparison
from eml.analysis.figures import over
from eml.analysis.options import Selection
from eml.analysis.report import write_report
from eml.analysis.summary import summary
from eml.errors import UserError
from eml.tracking.history import METRICS, load_history
from support.commands import add_training
from support.histories import figures_of

GOOD = {
    "train_loss": [2.3, 1.5, 1.0],
    "train_accuracy": [0.1, 0.6, 0.8],
    "test_loss": [2.3, 1.4, 0.9],
    "test_accuracy": [0.1, 0.5, 0.7],
    "train_seconds": [0.0, 2.0, 4.0],
    "eval_seconds": [0.5, 1.0, 1.5],
    "wall_seconds": [1.0, 3.0, 6.0],
    "setup_seconds": [0.5, 0.5, 0.5],
    "images_per_second": [math.nan, 1000.0, 1000.0],
}
DRAWN = {
    f"test_accuracy_over_{x}": partial(over, x=x, metric="test_accuracy")
    for x in ("epoch", "train_seconds")
} | figures_of("mlp_torch")


def add(client, *, name=None, logged=None, tags=None, **params) -> str:
    """A finished training of two epochs; logged: metrics in place of GOOD's, by epoch."""
    points = GOOD | (logged or {})
    params = {"parameters": 1000} | params
    return add_training(client, name=name, tags=tags, params=params, points=points, epochs=2)


def load(*run_ids: str):
    return load_history(Selection(runs=",".join(run_ids)))


def compared(folder: Path, *run_ids: str) -> tuple[str, dict]:
    """The Markdown that `compare` prints of these runs, and its summary by run."""
    history, _ = load(*run_ids)
    comparison = Comparison(history)
    text = write_report(DRAWN, comparison, folder).rest
    return text, {row.run_ids: row for row in summary(comparison)}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"seed": None}, "parameters missing: seed"),
        ({"optimizer": "lion"}, "optimizer=lion: give one of sgd, "),
        ({"dataset": "svhn"}, "svhn"),
        ({"epochs": "two\n"}, "'two\\n'"),
        ({"learning_rate": "nan"}, "lr=nan: give a number above 0"),
    ],
)
def test_what_is_no_training_of_this_version_is_named(params, reason, store):
    good, odd, deleted = add(store), add(store, **params), add(store, seed=2)
    store.delete_run(deleted)
    history, (line, of_deleted) = load(good, odd, deleted)
    assert of_deleted == f"left out, deleted: {deleted}"
    assert set(history["run_id"]) == {good}
    assert reason in line
    assert line.endswith(f": {odd}")
    assert line.isprintable()
    with pytest.raises(UserError, match=f"no training selected; left out, .*{odd}"):
        load(odd)
    assert load_history(Selection())[1] == [line]


def test_a_run_without_an_epoch_is_named(store):
    good, nothing = add(store), add(store, logged={metric: [] for metric in GOOD}, seed=3)
    assert load(good, nothing)[1] == [f"left out, no epoch: {nothing}"]
    with pytest.raises(UserError, match=f"left out, no epoch: {nothing}"):
        load(nothing)


def test_numbers_count_however_they_were_typed(store):
    typed = {"epochs": "02", "learning_rate": "1e-1", "momentum": "0.90", "validation": "00"}
    history, lines = load(add(store, seed="03", **typed), add(store, seed=4))
    assert lines == []
    (row,) = summary(Comparison(history))
    assert (row.n, row.final_accuracy, row.curve) == (2, 0.7, "all runs")


def test_a_last_epoch_of_nan_is_diverged(store, tmp_path, png_only):
    good = add(store)
    odd = add(store, learning_rate=0.2, logged={"test_accuracy": [0.1, 0.5, math.nan]})
    text, rows = compared(tmp_path, good, odd)
    assert (rows[odd].complete, rows[odd].diverged) == (0, "seed 1 in epoch 2")
    assert rows[good].final_accuracy == 0.7
    assert "diverged" in text


ODD = {
    "no epoch 0": {"logged": {metric: [None, *GOOD[metric][1:]] for metric in GOOD}},
    "the last epoch alone": {"logged": {m: [None, None, GOOD[m][2]] for m in GOOD}},
    "one metric": {"logged": {m: [] for m in GOOD if m != "test_accuracy"}},
    "no seconds": {"logged": {m: [] for m in GOOD if m.endswith("seconds")}},
    "seconds backwards": {"logged": {"train_seconds": [9, 5, 1]}},
    "a loss of 1e-320": {"logged": {"test_loss": [1e-320] * 3, "train_loss": [0, 0, 1e-320]}},
    "tags named as columns": {
        "tags": dict.fromkeys((*METRICS, "epoch", "epochs", "run_id", "seed", "x", "count"), "9")
    },
    "tags of any text": {"tags": {"hardware": "$\\frac{$ | \x1b[31m" + "W" * 1000}},
    "a name of any text": {"name": "_$x^2$ <b>|\n\x1b[31m"},
    "parameters as a tag": {"parameters": None, "tags": {"parameters": "some"}},
    "a rate of 1e17": {"learning_rate": "1e17"},
}


def test_odd_runs_are_drawn_beside_an_ordinary_one(store, tmp_path, png_only):
    good = add(store)
    odd = [add(store, seed=3 + number, **options) for number, options in enumerate(ODD.values())]
    history, lines = load(good, *odd)
    assert (lines, set(history["run_id"])) == ([], {good, *odd})
    text, _ = compared(tmp_path, good, *odd)
    assert all(line.isprintable() for line in text.splitlines())
    of_good = history[history["run_id"] == good]
    for metric in ("test_accuracy", "test_loss", "train_seconds"):
        assert of_good[metric].tolist() == GOOD[metric]
