"""What varies, how it is said, and the summary, worked out by hand."""

import math

import pandas as pd
import pytest

from eml.analysis.curves import curves, diverged_epoch, in_common, unfinished, varying, words
from eml.analysis.summary import readable, summary, tried
from support.histories import GRID, NAN, run, together

SWEEP = together(
    run("a", [0.1, 0.9, 0.8], lr=1.0),
    run("b", [0.1, 0.3, 0.5], lr=0.001),
    run("c", [0.1, 0.2, NAN], lr=0.5),
)
# Two optimizers with two seeds each, whose final accuracies overlap, and one that is far away.
OPTIMIZERS = together(
    run("s1", [0.1, 0.4, 0.6], optimizer="sgd", seed=1, seconds=2),
    run("s2", [0.1, 0.5, 0.7], optimizer="sgd", seed=2, seconds=4),
    run("a1", [0.1, 0.7, 0.65], optimizer="adam", seed=1, seconds=3),
    run("a2", [0.1, 0.6, 0.75], optimizer="adam", seed=2, seconds=3),
    run("r1", [0.1, 0.2, 0.3], optimizer="rmsprop", seed=1),
    run("r2", [0.1, 0.2, 0.4], optimizer="rmsprop", seed=2),
)


def test_what_varies():
    assert varying(SWEEP) == ["learning_rate"]
    assert varying(run("a", [0.1])) == []
    seeds = together(run("a", [0.1], seed=1), run("b", [0.1], seed=2))
    assert varying(seeds) == []
    assert varying(together(seeds, run("c", [0.1], batch_size=32))) == ["batch_size"]


def test_an_optimizer_is_never_named_without_its_learning_rate():
    same_rate = together(
        run("a", [0.1], optimizer="adam", lr="0.01"), run("b", [0.1], optimizer="sgd", lr="0.01")
    )
    assert varying(same_rate) == ["optimizer", "learning_rate"]
    assert [curve.label for curve in curves(OPTIMIZERS)] == [
        "adam, learning rate 0.001",
        "rmsprop, learning rate 0.001",
        "sgd, learning rate 0.1",
    ]


def test_what_makes_the_model_is_not_named_beside_it():
    both = together(run("a", [0.1]), run("b", [0.1], optimizer="sgd"))
    assert varying(both) == ["model", "framework", "dataset"]
    relu = run("c", [0.1])
    relu["activation"] = "relu"  # unless the same model has several
    assert varying(together(both, relu)) == ["model", "framework", "dataset", "activation"]


def test_curves_are_in_the_order_of_what_varies():
    assert [curve.label for curve in curves(SWEEP)] == [
        "learning rate 0.001",
        "learning rate 0.5",
        "learning rate 1",
    ]
    (seeds,) = curves(together(run("a", [0.1], seed=1), run("b", [0.1], seed=2)))
    assert len(seeds.runs) == 2


def test_in_common():
    assert in_common(SWEEP, ("model", "framework", "dataset", "learning_rate", "subset")) == [
        "MLP",
        "NumPy",
        "MNIST",
        "all images",
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("optimizer", "sgd", "sgd"),
        ("optimizer", "unknown", "unknown"),
        ("optimizer", "", 'optimizer ""'),
        ("optimizer", " sgd", 'optimizer " sgd"'),
        ("device_type", "cpu", "CPU"),
        ("device_type", "CPU", 'device type "CPU"'),
        ("dtype", "x", "dtype x"),
        ("learning_rate", 0.1, "learning rate 0.1"),
        ("learning_rate", 1, "learning rate 1"),
        ("subset", 0, "all images"),
    ],
)
def test_different_values_are_said_differently(name, value, said):
    assert words(name, value) == said


def test_diverged_and_unfinished():
    assert diverged_epoch(run("a", [0.1, NAN])) == 1
    assert diverged_epoch(run("a", [0.1, 0.2])) is None
    assert unfinished(run("a", [0.1, 0.2], epochs=5))
    assert not unfinished(run("a", [0.1, NAN], epochs=5))
    assert not unfinished(run("a", [0.1, 0.2], epochs=1))


def test_summary_of_seeds():
    table = summary(OPTIMIZERS, [0.5, 0.65, 0.9]).set_index("optimizer")
    assert table["n"].tolist() == [2, 2, 2]
    sgd = table.loc["sgd"]
    assert (sgd.final_lowest, sgd.final_highest) == (0.6, 0.7)
    assert sgd.final_test_accuracy == pytest.approx(0.65)
    assert sgd.best_test_accuracy == pytest.approx(0.65)
    assert sgd.best_epoch == "2, 2"
    assert table.loc["adam"].best_test_accuracy == pytest.approx((0.7 + 0.75) / 2)
    assert table.loc["adam"].best_epoch == "1, 2"
    assert sgd.train_seconds_per_epoch == 3
    assert sgd.parameters == 1000
    # Seed 1 reached 0.5 in epoch 2 after 4 s, seed 2 in epoch 1 after 4 s.
    assert (sgd["epochs_to_0.5"], sgd["seconds_to_0.5"], sgd["reached_0.5"]) == (1.5, 4, 2)
    assert math.isnan(sgd["epochs_to_0.65"])
    assert (sgd["reached_0.65"], sgd["reached_0.9"]) == (1, 0)


def test_overlapping_ranges_are_not_separable():
    table = summary(OPTIMIZERS).set_index("optimizer")
    assert table["not_separable_from"].to_dict() == {
        "sgd": "adam, learning rate 0.001",
        "adam": "sgd, learning rate 0.1",
        "rmsprop": "",
    }
    # Of single seeds nothing can be said.
    assert set(summary(SWEEP)["not_separable_from"]) == {""}


def test_a_diverged_run_is_counted_out_and_named():
    table = summary(SWEEP, [0.5]).set_index("learning_rate")
    assert table["n"].to_dict() == {0.001: 1, 0.5: 0, 1.0: 1}
    assert table.loc[0.5, "diverged"] == "seed 1 in epoch 2"
    assert math.isnan(table.loc[0.5, "final_test_accuracy"])
    assert table.loc[1.0, "final_test_accuracy"] == 0.8
    assert table.loc[1.0, "best_test_accuracy"] == 0.9
    seeds = together(run("a", [0.1, 0.5], seed=1), run("b", [0.1, NAN], seed=2))
    (row,) = summary(seeds).to_dict("records")
    assert (row["n"], row["final_test_accuracy"]) == (1, 0.5)
    assert row["diverged"] == "seed 2 in epoch 1"


def test_a_run_without_an_accuracy_is_counted_out():
    nothing = run("a", [0.1, 0.5])
    nothing["test_accuracy"] = NAN
    assert summary(nothing)["n"].tolist() == [0]


def test_runs_on_validation_images_are_summed_up_by_them():
    history = run("a", [0.1, 0.7, 0.6], optimizer="sgd", validation=5000)
    (row,) = summary(history).to_dict("records")
    assert (row["final_validation_accuracy"], row["best_validation_accuracy"]) == (0.6, 0.7)
    assert "final_test_accuracy" not in row
    (shown,) = readable(summary(history)).to_dict("records")
    assert shown["final validation accuracy"] == "60.00%"
    diverged = run("b", [0.1, 0.7, NAN], optimizer="sgd", validation=5000)
    assert diverged_epoch(diverged) == 2


def test_what_a_search_tried():
    table = tried(GRID, chosen=["a", "d"], pruned={"b": 1})
    assert table["run_id"].tolist() == ["d", "b", "a", "c"]
    assert table["best_validation_accuracy"].tolist() == [0.6, 0.3, 0.5, 0.2]
    assert table["in_epoch"].tolist() == [1, 1, 2, 1]
    assert table["outcome"].tolist() == [
        "chosen",
        "pruned after epoch 1",
        "chosen",
        "diverged in epoch 2",
    ]


def test_an_unfinished_run_is_counted_out_and_named():
    (row,) = summary(run("a", [0.1, 0.9], epochs=30)).to_dict("records")
    assert (row["n"], row["unfinished"]) == (0, "seed 1 after epoch 1")


def test_readable_summary():
    targets = [0.5, 0.65, 0.9]
    shown = readable(summary(OPTIMIZERS, targets), targets)
    (sgd,) = shown[shown["curve"] == "sgd, learning rate 0.1"].to_dict("records")
    assert sgd == {
        "curve": "sgd, learning rate 0.1",
        "n": "2",
        "final test accuracy": "65.00% (60.00% to 70.00%)",
        "not separable from": "adam, learning rate 0.001",
        "best": "65.00%",
        "in epoch": "2, 2",
        "train s/epoch": "3",
        "parameters": "1,000",
        "to 0.5": "epoch 1.5, 4 s",
        "to 0.65": "1 of 2 seeds in 2",
        "to 0.9": "not reached in 2",
    }
    assert isinstance(shown, pd.DataFrame)
