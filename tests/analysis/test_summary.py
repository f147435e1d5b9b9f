"""What varies, how it is said, and the summary, worked out by hand."""

import math

import pandas as pd
import pytest

from eml.analysis.curves import curves, trainings_of
from eml.analysis.labels import in_common, varying, words
from eml.analysis.summary import Outcomes, by_rate, summary, tried
from eml.analysis.tables import readable
from support.histories import GRID, NAN, run, together

SWEEP = together(
    run("a", [0.1, 0.9, 0.8], lr=1.0),
    run("b", [0.1, 0.3, 0.5], lr=0.001),
    run("c", [0.1, 0.2, NAN], lr=0.5),
)
# Optimizers with two seeds each.
OPTIMIZERS = together(
    run("s1", [0.1, 0.4, 0.6, 0.6, 0.6], optimizer="sgd", seed=1, seconds=2),
    run("s2", [0.1, 0.5, 0.66, 0.68, 0.7], optimizer="sgd", seed=2, seconds=4),
    run("a1", [0.1, 0.7, 0.65, 0.6, 0.65], optimizer="adam", seed=1, seconds=3),
    run("a2", [0.1, 0.6, 0.75, 0.7, 0.75], optimizer="adam", seed=2, seconds=3),
    run("r1", [0.1, 0.2, 0.3, 0.3, 0.3], optimizer="rmsprop", seed=1),
    run("r2", [0.1, 0.2, 0.4, 0.4, 0.4], optimizer="rmsprop", seed=2),
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
        "rmsprop, learning rate 0.0003",
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
    assert len(seeds.trainings) == 2


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
    def of(*arguments, **options):
        (training,) = trainings_of(run("a", *arguments, **options))
        return training.diverged, training.unfinished, training.complete

    assert of([0.1, NAN]) == (1, False, False)
    assert of([0.1, NAN], epochs=5) == (1, False, False)
    assert of([0.1, 0.2], epochs=5) == (None, True, False)
    assert of([0.1, 0.2], epochs=1) == (None, False, True)


@pytest.mark.parametrize("metric", ["train_loss", "test_accuracy"])
def test_one_score_that_is_not_finite_is_enough(metric):
    one = run("a", [0.1, 0.5])
    one.loc[1, metric] = NAN
    (training,) = trainings_of(one)
    assert training.diverged == 1


def test_summary_of_seeds():
    table = summary(OPTIMIZERS, [0.5, 0.65, 0.9]).set_index("optimizer")
    assert table["n"].tolist() == [2, 2, 2]
    sgd = table.loc["sgd"]
    assert (sgd.final_lowest, sgd.final_highest) == (0.6, 0.7)
    assert sgd.final_test_accuracy == pytest.approx(0.65)
    assert sgd.best_test_accuracy == pytest.approx(0.65)
    assert sgd.best_epoch == "2, 4"
    assert table.loc["adam"].best_test_accuracy == pytest.approx((0.7 + 0.75) / 2)
    assert table.loc["adam"].best_epoch == "1, 2"
    assert sgd.train_seconds_per_epoch == 3
    assert sgd.parameters == 1000
    # Seed 1 reached 0.5 in epoch 2 after 4 s, seed 2 in epoch 1 after 4 s.
    assert (sgd["epochs_to_0.5"], sgd["seconds_to_0.5"], sgd["reached_0.5"]) == (1.5, 4, 2)
    assert sgd["epochs_to_0.65"] == math.inf  # of two seeds, half have missed it
    assert (sgd["reached_0.65"], sgd["reached_0.9"]) == (1, 0)


def test_too_few_seeds_separate_nothing():
    table = summary(OPTIMIZERS).set_index("optimizer")
    assert set(table["not_separable_from"]) == {"n = 2: too few seeds to tell"}


def test_a_diverged_run_is_counted_as_chance_and_named():
    table = summary(SWEEP, [0.5]).set_index("learning_rate")
    assert table["complete"].to_dict() == {0.001: 1, 0.5: 0, 1.0: 1}
    assert table.loc[0.5, "diverged"] == "seed 1 in epoch 2"
    assert math.isnan(table.loc[0.5, "final_test_accuracy"])  # there is no model
    assert table.loc[1.0, "final_test_accuracy"] == 0.8
    assert table.loc[1.0, "best_test_accuracy"] == 0.9
    # Three of five seeds diverge: they do not leave a mean of the two that are left.
    five = [run(f"{s}", [0.1, 0.62, 0.62, 0.62], seed=s) for s in (1, 2)]
    five += [run(f"{s}", [0.1, 0.62, NAN], seed=s, epochs=3) for s in (3, 4, 5)]
    (row,) = summary(together(*five), [0.6]).to_dict("records")
    assert (row["n"], row["complete"]) == (5, 2)
    assert row["final_test_accuracy"] == pytest.approx((2 * 0.62 + 3 * 0.1) / 5)
    assert row["final_lowest"] == 0.1
    assert (row["reached_0.6"], row["epochs_to_0.6"]) == (2, math.inf)
    (shown,) = readable(summary(together(*five), [0.6]), [0.6]).to_dict("records")
    assert (shown["n"], shown["to 0.6"]) == ("2 of 5 (3 diverged)", "2 of 5 seeds")


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    rates = together(
        run("a", [0.1, 0.62], lr=0.5, seed=1),
        run("b", [0.1, NAN], lr=0.5, seed=2),
        *(run(f"c{s}", [0.1, 0.55], lr=0.1, seed=s) for s in (1, 2)),
    )
    assert by_rate(rates)["sgd"].to_dict() == {0.1: 0.55, 0.5: pytest.approx(0.36)}


def test_the_median_counts_a_miss_as_infinite():
    three = [run(f"{s}", [0.1, 0.5, 0.5, 0.5], seed=s, seconds=s) for s in (1, 2)]
    three.append(run("3", [0.1, 0.2, 0.2, 0.2], seed=3))
    (row,) = summary(together(*three), [0.5]).to_dict("records")
    assert (row["epochs_to_0.5"], row["seconds_to_0.5"]) == (1, 2)
    (shown,) = readable(summary(together(*three), [0.5]), [0.5]).to_dict("records")
    assert shown["to 0.5"] == "2 of 3 seeds, median: epoch 1, 2 s"


def test_a_target_must_be_held():
    touched = run("a", [0.1, 0.7, 0.4, 0.5, 0.7, 0.7, 0.8])
    (row,) = summary(touched, [0.7, 0.75]).to_dict("records")
    assert (row["epochs_to_0.7"], row["seconds_to_0.7"]) == (4, 8)
    (shown,) = readable(summary(touched, [0.7, 0.75]), [0.7, 0.75]).to_dict("records")
    assert shown["to 0.7"] == "epoch 4, 8 s"
    assert shown["to 0.75"] == "not held for 3 epochs, first touch in epoch 6"


def test_seconds_that_overlap_are_not_ranked():
    """The CPU takes 2 and 9 s for its epochs, the GPU 4 and 4: 5.5 against 4.0 means nothing."""
    cpu, gpu = run("a", [0.1, 0.4, 0.5]), run("b", [0.1, 0.4, 0.5], seconds=4)
    cpu["train_seconds"] = [0, 2, 11]
    gpu["device_type"] = "cuda"
    table = summary(together(cpu, gpu)).set_index("curve")
    assert table["train_seconds_per_epoch"].to_dict() == {"CPU": 5.5, "GPU": 4}
    assert table.loc["CPU", ["seconds_lowest", "seconds_highest"]].tolist() == [2, 9]
    assert table["seconds_not_separable_from"].to_dict() == {"CPU": "GPU", "GPU": "CPU"}
    shown = readable(summary(together(cpu, gpu))).set_index("curve")
    assert shown.loc["CPU", "train s/epoch"] == "5.5 (2 to 9)"
    touching = gpu.assign(train_seconds=[0, 9, 18])
    assert set(summary(together(cpu, touching))["seconds_not_separable_from"]) == {"CPU", "GPU"}
    faster = gpu.assign(train_seconds=[0, 1, 2])
    assert set(summary(together(cpu, faster))["seconds_not_separable_from"]) == {""}


def test_a_single_run_has_the_error_of_its_test_set():
    history = run("a", [0.1, 0.64])
    (row,) = summary(history).to_dict("records")
    assert (row["final_low"], row["final_high"]) == pytest.approx((0.6305, 0.6493), abs=1e-4)
    (shown,) = readable(summary(history)).to_dict("records")
    assert shown["95 % interval"] == "63.05% to 64.94% (test set alone)"
    (few,) = summary(history.assign(test_images=100)).to_dict("records")
    assert few["final_high"] - few["final_low"] > 0.18


def test_a_run_without_an_accuracy_is_counted_out():
    nothing = run("a", [0.1, 0.5])
    nothing["test_accuracy"] = NAN
    assert summary(nothing)["complete"].tolist() == [0]


def test_runs_on_validation_images_are_summed_up_by_them():
    history = run("a", [0.1, 0.7, 0.6], optimizer="sgd", validation=5000)
    (row,) = summary(history).to_dict("records")
    assert (row["final_validation_accuracy"], row["best_validation_accuracy"]) == (0.6, 0.7)
    assert "final_test_accuracy" not in row
    (shown,) = readable(summary(history)).to_dict("records")
    assert shown["final validation accuracy"] == "60.00%"
    (training,) = trainings_of(run("b", [0.1, 0.7, NAN], optimizer="sgd", validation=5000))
    assert training.diverged == 2


def test_what_a_search_tried():
    outcomes = Outcomes(chosen=["a", "d"], pruned={"b": 1})
    table = tried(GRID, outcomes)
    assert table["run_id"].tolist() == ["d", "b", "a", "c"]
    assert table["validation_accuracy"].tolist() == [0.3, 0.3, 0.5, 0.2]
    assert table["in_epoch"].tolist() == [2, 1, 2, 1]
    by_best = tried(GRID, outcomes, "best")
    assert by_best["validation_accuracy"].tolist() == [0.6, 0.3, 0.5, 0.2]
    assert table["outcome"].tolist() == [
        "chosen",
        "pruned after epoch 1",
        "chosen",
        "diverged in epoch 2",
    ]


def test_an_unfinished_run_is_counted_out_and_named():
    (row,) = summary(run("a", [0.1, 0.9], epochs=30)).to_dict("records")
    assert (row["n"], row["complete"]) == (1, 0)
    assert row["unfinished"] == "seed 1 after epoch 1"


def test_readable_summary():
    targets = [0.5, 0.65, 0.9]
    shown = readable(summary(OPTIMIZERS, targets), targets)
    (sgd,) = shown[shown["curve"] == "sgd, learning rate 0.1"].to_dict("records")
    assert sgd == {
        "curve": "sgd, learning rate 0.1",
        "n": "2",
        "final test accuracy": "65.00% (60.00% to 70.00%)",
        "95 % interval": "too few seeds",
        "not separable from": "n = 2: too few seeds to tell",
        "best": "65.00%",
        "in epoch": "2, 4",
        "train s/epoch": "3 (2 to 4)",
        "seconds not separable from": "adam, learning rate 0.001; rmsprop, learning rate 0.0003",
        "parameters": "1,000",
        "to 0.5": "median: epoch 1.5, 4 s",
        "to 0.65": "1 of 2 seeds",
        "to 0.9": "not reached in 4",
    }
    assert isinstance(shown, pd.DataFrame)
