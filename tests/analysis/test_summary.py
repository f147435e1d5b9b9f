"""What varies, how it is said, and the summary, worked out by hand."""

import itertools
import math

import pytest

from eml.analysis import summary as summaries
from eml.analysis.comparison import Comparison
from eml.analysis.curves import Seconds
from eml.analysis.fairness import differences
from eml.analysis.figures import SETTINGS
from eml.analysis.summary import (
    CurveSummary,
    Outcomes,
    by_outcome,
    by_rate,
    tried,
)
from eml.analysis.tables import readable
from support.histories import GRID, NAN, SWEEP, run, together

# Optimizers with two seeds each.
OPTIMIZERS = together(
    run("s1", [0.1, 0.4, 0.6, 0.6, 0.6], optimizer="sgd", seed=1, seconds=2),
    run("s2", [0.1, 0.5, 0.66, 0.68, 0.7], optimizer="sgd", seed=2, seconds=4),
    run("a1", [0.1, 0.7, 0.65, 0.6, 0.65], optimizer="adam", seed=1, seconds=3),
    run("a2", [0.1, 0.6, 0.75, 0.7, 0.75], optimizer="adam", seed=2, seconds=3),
    run("r1", [0.1, 0.2, 0.3, 0.3, 0.3], optimizer="rmsprop", seed=1),
    run("r2", [0.1, 0.2, 0.4, 0.4, 0.4], optimizer="rmsprop", seed=2),
)


def summary(history) -> list[CurveSummary]:
    return summaries.summary(Comparison(history))


def by_label(history) -> dict[str, CurveSummary]:
    return {row.curve: row for row in summary(history)}


def named(*runs) -> list[str]:
    return Comparison(together(*runs)).named


def test_what_labels_name():
    assert named(SWEEP) == ["learning_rate"]
    assert named(run("a", [0.1])) == []
    seeds = together(run("a", [0.1], seed=1), run("b", [0.1], seed=2))
    assert named(seeds) == []
    assert len(Comparison(seeds).curves[0].trainings) == 2
    assert named(seeds, run("c", [0.1], batch_size=32)) == ["batch_size"]
    # An optimizer is never named without its learning rate.
    same_rate = [run(name, [0.1], optimizer=name, lr="0.01") for name in ("adam", "sgd")]
    assert named(*same_rate) == ["optimizer", "learning_rate"]
    # What makes the model is not named beside it, unless the same model has several.
    both = together(run("a", [0.1]), run("b", [0.1], optimizer="sgd"))
    assert named(both) == ["model", "framework", "dataset"]
    relu = run("c", [0.1]).assign(activation="relu")
    assert named(both, relu) == ["model", "framework", "dataset", "activation"]
    names = ("model", "framework", "dataset", "learning_rate", "subset")
    assert Comparison(SWEEP).in_common(names) == ["MLP", "NumPy", "MNIST", "all images"]


def test_a_momentum_is_named_where_it_acts():
    fast = run("m", [0.1, 0.5], optimizer="momentum", lr="0.1", momentum="0.8")
    both = Comparison(together(run("s", [0.1, 0.4], optimizer="sgd", lr="0.1"), fast))
    labels = ["SGD with momentum, learning rate 0.1, momentum 0.8", "SGD, learning rate 0.1"]
    assert sorted(curve.label for curve in both.curves) == labels
    rows = {row.curve: row.row() for row in summaries.summary(both)}
    assert [rows[label]["momentum"] for label in labels] == [0.8, ""]
    assert Comparison(fast).in_common(SETTINGS)[-1] == "momentum 0.8"
    assert "momentum=0.8" in fast["run_name"][0]
    other = both.history.assign(dataset=["mnist"] * 2 + ["cifar10"] * 2)  # another subject
    assert "momentum: 0.8 (" in "\n".join(differences(Comparison(other)))
    assert "momentum: 0.9" not in "\n".join(differences(Comparison(other)))


def test_seconds_read_as_people_write_them():
    slow = run("a", [0.1, *[0.7] * 4], seconds=1170.4)
    (row,) = readable(summary(slow))
    assert row["train s/epoch"] == "1,170"


def test_curves_are_in_the_order_of_what_varies():
    rates = [f"learning rate {rate}" for rate in (0.001, 0.5, 1)]
    assert [curve.label for curve in Comparison(SWEEP).curves] == rates
    assert list(by_label(OPTIMIZERS)) == [
        "Adam, learning rate 0.001",
        "RMSprop, learning rate 0.0003",
        "SGD, learning rate 0.1",
    ]


@pytest.mark.parametrize(
    ("history", "diverged", "unfinished"),
    [
        (run("a", [0.1, NAN]), 1, False),
        (run("a", [0.1, NAN], epochs=5), 1, False),
        (run("a", [0.1, 0.2], epochs=5), None, True),
        (run("a", [0.1, 0.2], epochs=1), None, False),
        # One score that is not finite is enough.
        (run("a", [0.1, 0.5, 0.6]).assign(train_loss=[2.3, 1.5, NAN]), 2, False),
        (run("a", [0.1, NAN], losses=[2.3, 1.5]), 1, False),
        (run("a", [0.1, 0.7, NAN], optimizer="sgd", validation=5000), 2, False),
    ],
)
def test_diverged_and_unfinished(history, diverged, unfinished):
    (training,) = Comparison(history).trainings
    assert (training.diverged, training.unfinished) == (diverged, unfinished)
    assert training.complete == (diverged is None and not unfinished)


def test_summary_of_seeds():
    rows = by_label(OPTIMIZERS)
    assert [row.n for row in rows.values()] == [2, 2, 2]
    sgd, adam = rows["SGD, learning rate 0.1"], rows["Adam, learning rate 0.001"]
    assert (sgd.final_lowest, sgd.final_highest) == (0.6, 0.7)
    assert sgd.final_accuracy == sgd.best_accuracy == pytest.approx(0.65)
    assert sgd.best_epoch == "2, 4"
    assert adam.best_accuracy == pytest.approx((0.7 + 0.75) / 2)
    assert adam.best_epoch == "1, 2"
    assert (sgd.seconds.mean, sgd.parameters) == (3, 1000)
    others = "Adam, learning rate 0.001; RMSprop, learning rate 0.0003 (too few seeds)"
    assert sgd.row()["not_judged_against"] == others


def test_the_columns_of_the_summary():
    (row,) = summary(run("a", [0.1, 0.5, 0.5, 0.5], seed=3))
    columns = row.row()
    assert columns["final_test_accuracy"] == columns["best_test_accuracy"] == 0.5
    assert (columns["train_seconds_per_epoch"], columns["seconds_highest"]) == (2, 2)
    columns = by_label(OPTIMIZERS)["SGD, learning rate 0.1"].row()
    assert (columns["optimizer"], columns["learning_rate"]) == ("sgd", 0.1)


def test_a_diverged_run_is_counted_as_chance_and_named():
    rows = by_label(SWEEP)
    assert [row.complete for row in rows.values()] == [1, 0, 1]
    assert rows["learning rate 0.5"].diverged == "seed 1 in epoch 2"
    assert math.isnan(rows["learning rate 0.5"].final_accuracy)  # there is no model
    one = rows["learning rate 1"]
    assert (one.final_accuracy, one.best_accuracy) == (0.8, 0.9)
    # Three of five seeds diverge: they do not leave a mean of the two that are left.
    five = [run(f"{s}", [0.1, 0.62, 0.62, 0.62], seed=s) for s in (1, 2)]
    five += [run(f"{s}", [0.1, 0.62, NAN], seed=s, epochs=3) for s in (3, 4, 5)]
    (row,) = summary(together(*five))
    assert (row.n, row.complete) == (5, 2)
    assert row.final_accuracy == pytest.approx((2 * 0.62 + 3 * 0.1) / 5)
    assert row.final_lowest == 0.1
    (text,) = readable([row])
    assert text["n"] == "2 of 5 (3 diverged)"


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    rates = together(
        run("a", [0.1, 0.62], lr=0.5, seed=1),
        run("b", [0.1, NAN], lr=0.5, seed=2),
        *(run(f"c{s}", [0.1, 0.55], lr=0.1, seed=s) for s in (1, 2)),
    )
    assert by_rate(Comparison(rates)) == {"SGD": {0.1: 0.55, 0.5: pytest.approx(0.36)}}


def test_the_seconds_of_an_epoch():
    history = run("a", [0.1, 0.4, 0.5]).assign(train_seconds=[0, 2, 11])
    (row,) = summary(history)
    assert row.seconds == (5.5, 2, 9)
    assert readable([row])[0]["train s/epoch"] == "5.5 (2 to 9)"


def test_a_single_run_has_the_error_of_its_test_set():
    history = run("a", [0.1, 0.64])
    (row,) = summary(history)
    assert (row.final_low, row.final_high) == pytest.approx((0.6305, 0.6493), abs=1e-4)
    assert readable([row])[0]["95 % interval"] == "63.05% to 64.94% (test set alone)"
    (few,) = summary(history.assign(test_images=100))
    assert few.final_high - few.final_low > 0.18


def test_runs_without_an_accuracy_or_without_all_epochs_are_counted_out():
    (row,) = summary(run("a", [0.1, 0.5]).assign(test_accuracy=NAN))
    assert row.complete == 0
    (row,) = summary(run("a", [0.1, 0.9], epochs=30))
    assert (row.n, row.complete, row.unfinished) == (1, 0, "seed 1 after epoch 1")


def test_runs_on_validation_images_are_summed_up_by_them():
    held_out = run("a", [0.1, 0.7, 0.6], optimizer="sgd", validation=5000)
    (row,) = summary(held_out)
    assert (row.split, row.final_accuracy, row.best_accuracy) == ("validation", 0.6, 0.7)
    assert row.row()["final_validation_accuracy"] == 0.6
    mixed = readable(summary(together(held_out, run("b", [0.1, 0.5, 0.5], optimizer="sgd"))))
    columns = ("final test accuracy", "final validation accuracy")
    assert [[text[name] for name in columns] for text in mixed] == [["50.00%", ""], ["", "60.00%"]]


def test_what_a_search_tried():
    outcomes = Outcomes(chosen=["a", "d"], tied=["b", "d"])
    columns = ("run_id", "validation_accuracy", "outcome")
    for criterion, scores in {"median": [0.3, 0.6, 0.5], "best": [0.6, 0.6, 0.5]}.items():
        rows = tried(Comparison(GRID, criterion), outcomes)
        assert [tuple(row[name] for name in columns) for row in rows] == [
            ("d", scores[0], "chosen"),
            ("b", scores[1], "tied"),
            ("a", scores[2], "chosen"),
            ("c", 0.1, "diverged in epoch 2"),  # as chance
        ]


def test_readable_summary():
    *_, sgd = readable(summary(OPTIMIZERS))
    assert sgd == {
        "curve": "SGD, learning rate 0.1",
        "n": "2",
        "final test accuracy": "65.00% (60.00% to 70.00%)",
        "95 % interval": "too few seeds",
        "best": "65.00%",
        "in epoch": "2, 4",
        "train s/epoch": "3 (2 to 4)",
        "parameters": "1,000",
    }


@pytest.mark.parametrize("others", [1, 2, 3, 4])
def test_other_curves_are_named_where_there_are_at_most_two(others):
    runs = [run(str(n), [0.1, 0.5], lr=2.0**-n) for n in range(others + 1)]
    first, *rest = summary(together(*runs))
    text = "all others" if others > 2 else "; ".join(row.curve for row in rest)
    columns = by_outcome(first.verdicts, shortened=True)
    assert columns["not_judged_against"] == f"{text} (too few seeds)"


def test_seconds_overlap_where_their_ranges_have_a_value_in_common():
    ranges = [Seconds(0, low, high) for low in range(4) for high in range(low, 4)]
    for one, other in itertools.product(ranges, ranges):
        common = {*range(one.lowest, one.highest + 1)} & {*range(other.lowest, other.highest + 1)}
        assert one.overlaps(other) == bool(common)


def test_a_curve_alone_has_the_name_of_its_run():
    one, other = (run(str(seed), [0.1, 0.5], seed=seed) for seed in (1, 2))
    assert [row.curve for row in summary(one)] == [one["run_name"][0]]
    assert [row.curve for row in summary(together(one, other))] == ["all runs"]
