"""Verdicts have the error that they claim, against scipy.stats and by simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eml.analysis.comparison import Comparison
from eml.analysis.summary import summary
from eml.analysis.verdicts import (
    _intervals,
    above_chance,
    evaluated_images,
    interval,
    wilson,
)
from support.histories import NAN, run, together

IMAGES = 10_000


def optimizers(**finals) -> pd.DataFrame:
    """A history of two epochs: by optimizer, the final accuracies of its seeds 1, 2, ..."""
    return together(
        *(
            run(f"{name}{seed}", [0.1, final], optimizer=name, seed=seed)
            for name, of in finals.items()
            for seed, final in enumerate(of, start=1)
        )
    )


def test_a_point_in_each_of_five_seeds_is_found():
    """Seeds differ by five points, so that the ranges overlap; paired, the difference is clear."""
    sgd = [0.60, 0.61, 0.62, 0.64, 0.65]
    (verdict,) = Comparison(optimizers(adam=[a + 0.01 for a in sgd], sgd=sgd)).verdicts
    assert verdict.separable
    assert verdict.difference == pytest.approx(0.01)
    assert str(verdict).endswith("points (+0.99 to +1.01), n = 5: separable")
    rows = summary(Comparison(optimizers(adam=[a + 0.01 for a in sgd], sgd=sgd)))
    assert [row.not_separable_from for row in rows] == ["", ""]


def test_an_interval_is_students_and_pairs_are_told_apart_as_holm_says():
    rng = np.random.default_rng(1)
    names = ("adagrad", "adam", "rmsprop", "sgd")
    finals = {n: 0.6 + 0.006 * i + rng.normal(0, 0.004, 5) for i, n in enumerate(names)}
    verdicts = Comparison(optimizers(**finals)).verdicts
    p = [
        stats.ttest_rel(finals[a.split(",")[0]], finals[b.split(",")[0]]).pvalue
        for a, b in ((verdict.curve, verdict.other) for verdict in verdicts)
    ]
    order = np.argsort(p)
    separable = set()
    for rank, i in enumerate(order):
        if p[i] > 0.05 / (len(p) - rank):
            break
        separable.add(i)
    assert 0 < len(separable) < len(p)
    assert {i for i, verdict in enumerate(verdicts) if verdict.separable} == separable
    # The first in the order is tested at 5 % by the number of pairs.
    first = verdicts[order[0]]
    paired = finals[first.curve.split(",")[0]] - finals[first.other.split(",")[0]]
    low, high = stats.t.interval(1 - 0.05 / 6, 4, paired.mean(), stats.sem(paired))
    assert (first.low, first.high) == pytest.approx((low, high))


def test_below_three_common_seeds_nothing_is_said():
    two = optimizers(adam=[0.9, 0.91], sgd=[0.5, 0.51, 0.52])
    (verdict,) = Comparison(two).verdicts
    assert not verdict.separable
    assert str(verdict).endswith("n = 2: too few seeds to tell")
    other_seeds = together(
        run("a", [0.1, 0.5], optimizer="adam", seed=1),
        run("b", [0.1, 0.5], optimizer="sgd", seed=2),
    )
    assert str(Comparison(other_seeds).verdicts[0]).endswith("no common seed")


def test_a_diverged_seed_counts_as_chance_and_an_unfinished_one_not_yet():
    history = optimizers(adam=[0.5, 0.5, 0.5, 0.5], sgd=[0.6, 0.6, NAN, 0.6])
    (verdict,) = Comparison(history).verdicts
    assert (verdict.n, verdict.difference) == (4, pytest.approx((-0.3 + 0.4) / 4))
    unfinished = history["run_id"] == "adam1"
    history.loc[unfinished, "epochs"] = 5
    assert Comparison(history[~unfinished]).verdicts[0].n == 3


def test_the_criterion_decides():
    falling = together(
        *(run(f"a{s}", [0.1, 0.9 + s / 100, 0.3], optimizer="adam", seed=s) for s in (1, 2, 3)),
        *(run(f"b{s}", [0.1, 0.5, 0.5 + s / 100], optimizer="sgd", seed=s) for s in (1, 2, 3)),
    )
    assert [Comparison(falling, c).verdicts[0].difference > 0 for c in ("last", "best")] == [
        False,
        True,
    ]


@pytest.mark.parametrize(("curves", "seeds"), [(2, 3), (2, 5), (4, 3), (4, 5)])
def test_equal_curves_are_rarely_told_apart(curves, seeds):
    """Of equal optimizers the share of comparisons with any false verdict is at most 5 %.

    The overlap of ranges told at least one pair of four apart in 36 % at three seeds.
    """
    rng = np.random.default_rng(curves + seeds)
    simulations, wrong = 2000, 0
    for _ in range(simulations):
        common = rng.normal(0, 0.01, seeds)  # what a seed gives to all
        finals = np.round(0.6 + common + rng.normal(0, 0.005, (curves, seeds)), 4)
        pairs = np.column_stack([finals[a] - finals[b] for a in range(curves) for b in range(a)])
        lows, highs = _intervals(pairs, 1e-5)
        wrong += any((lows > 0) | (highs < 0))
    error = math.sqrt(0.05 * 0.95 / simulations)
    assert wrong / simulations <= 0.05 + 2 * error


def test_few_images_alone_do_not_decide():
    """With 20 test images, three seeds are often one image apart by chance."""
    history = optimizers(adam=[0.55, 0.60, 0.65], sgd=[0.5, 0.55, 0.6]).assign(test_images=20)
    (verdict,) = Comparison(history).verdicts
    assert not verdict.separable


@pytest.mark.parametrize("odd", ["many", 0, None])
def test_an_odd_number_of_images_is_taken_for_all(odd):
    history = run("a", [0.1, 0.5])
    assert evaluated_images(Comparison(history.assign(test_images=odd)).trainings) == 10_000
    assert evaluated_images(Comparison(history.assign(test_images=100)).trainings) == 100


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.64, 1.0])
def test_the_error_of_one_run_is_the_binomial_one(accuracy):
    reference = stats.binomtest(round(accuracy * IMAGES), IMAGES).proportion_ci(method="wilson")
    assert wilson(accuracy, IMAGES) == pytest.approx(tuple(reference), abs=1e-12)
    assert interval(pd.Series([accuracy]), IMAGES) == wilson(accuracy, IMAGES)
    assert above_chance(IMAGES) == pytest.approx(0.106, abs=1e-4)


def test_the_interval_of_a_mean():
    scores = pd.Series([0.60, 0.62, 0.66])
    reference = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert interval(scores, IMAGES) == pytest.approx(reference)
    assert all(map(math.isnan, interval(scores[:2], IMAGES)))
