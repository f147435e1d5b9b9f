"""Verdicts and intervals are those of scipy.stats, and err as rarely as they claim."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eml.analysis.comparison import Comparison
from eml.analysis.summary import summary
from eml.analysis.verdicts import (
    NOT_JUDGED,
    SEPARABLE,
    above_chance,
    evaluated_images,
    interval,
    pair_tests,
    wilson,
)
from support.histories import NAN, run, together

IMAGES = 10_000
FLOOR = 1 / (math.sqrt(6) * IMAGES)


def optimizers(**finals) -> pd.DataFrame:
    """A history of two epochs: by optimizer, the final accuracies of its seeds 1, 2, ..."""
    return together(
        *(
            run(f"{name}{seed}", [0.1, final], optimizer=name, seed=seed)
            for name, of in finals.items()
            for seed, final in enumerate(of, start=1)
        )
    )


def reference(scores, diverged, images):
    """Outcome, test and interval of each pair: scipy's tests, and Holm's procedure as he wrote it.

    scores: by curve, the score by seed. diverged: by curve, seeds. Of small test sets, Newcombe's
    interval is the square-and-add of Wilson's.
    """
    tests, pairs = [], list(itertools.combinations(scores, 2))
    for one, other in pairs:
        seeds = sorted(scores[one].keys() & scores[other].keys())
        if len(seeds) < 3:
            continue
        a, b = (np.array([scores[name][seed] for seed in seeds]) for name in (one, other))
        counts = [len(diverged[name] & set(seeds)) for name in (one, other)]
        if any(counts):
            n, total = len(seeds), sum(counts)
            p = stats.fisher_exact([[counts[0], n - counts[0]], [counts[1], n - counts[1]]]).pvalue
            top = min(total, n)
            least = stats.fisher_exact([[top, n - top], [total - top, n - total + top]]).pvalue
            tests.append((p if least <= 0.05 else 2.0, (one, other), "Fisher", a, b))
        else:
            error = max((a - b).std(ddof=1), 1 / (math.sqrt(6) * images)) / math.sqrt(len(a))
            p = 2 * stats.t.sf(abs((a - b).mean()) / error, len(a) - 1)
            if error > 1 / (math.sqrt(6) * images) / math.sqrt(len(a)):
                assert p == pytest.approx(stats.ttest_rel(a, b).pvalue)
            tests.append((p, (one, other), "paired t", a, b))
    outcomes = dict.fromkeys(pairs, ("not judged", "", NAN, NAN))
    level = failed = None
    for rank, (p, pair, test, a, b) in enumerate(sorted(tests, key=lambda test: test[0])):
        level = level if failed else 0.05 / (len(tests) - rank)
        failed = failed or p > level
        low = high = NAN
        if test == "paired t":
            error = max((a - b).std(ddof=1), 1 / (math.sqrt(6) * images)) / math.sqrt(len(a))
            low, high = stats.t.interval(1 - level, len(a) - 1, (a - b).mean(), error)
            if images < 1000:
                (l1, u1), (l2, u2) = (binomial(x.mean(), images, level) for x in (a, b))
                down = math.hypot(a.mean() - l1, u2 - b.mean())
                up = math.hypot(u1 - a.mean(), b.mean() - l2)
                low, high = min(low, (a - b).mean() - down), max(high, (a - b).mean() + up)
        apart = low > 0 or high < 0 if test == "paired t" else not failed
        if p <= 1:
            outcomes[pair] = ("separable" if apart else "not separable", test, low, high)
    return outcomes


def binomial(accuracy, images, level):
    """Wilson's interval, by solving (p - accuracy)^2 = z^2 p (1 - p) / images for p."""
    z2 = stats.norm.isf(level / 2) ** 2 / images
    return np.sort(np.roots([1 + z2, -2 * accuracy - z2, accuracy**2]).real)


def test_verdicts_equal_those_of_scipy_in_random_histories():
    """2 to 6 curves in random order, with missing and diverged seeds, ties, and few images."""
    rng = np.random.default_rng(32)
    seen = set()
    for _ in range(40):
        images = int(rng.choice([20, 100, 999, 1000, 10_000]))
        names = rng.permutation(["adagrad", "adam", "adamax", "nadam", "rmsprop", "sgd"])
        scores, diverged, runs = {}, {}, []
        failing = rng.choice([0.0, 0.3, 1.0], p=[0.6, 0.2, 0.2])
        for name in names[: rng.integers(2, 7)]:
            seeds = [seed for seed in range(1, rng.integers(3, 8)) if rng.random() < 0.9] or [1]
            middle = rng.choice([0.3, 0.5, 0.52, 0.6])
            of = np.round((middle + rng.normal(0, 0.01, len(seeds))) * images) / images
            lost = rng.random(len(seeds)) < failing * rng.integers(0, 2)
            scores[name] = dict(zip(seeds, np.where(lost, 0.1, of), strict=True))
            diverged[name] = {seed for seed, gone in zip(seeds, lost, strict=True) if gone}
            runs += [
                run(f"{name}{s}", [0.1, NAN if gone else x], optimizer=name, seed=s)
                for s, x, gone in zip(seeds, of, lost, strict=True)
            ]
        order = rng.permutation(len(runs))
        history = together(*(runs[i] for i in order)).assign(test_images=images)
        want = reference(dict(sorted(scores.items())), diverged, images)
        for verdict in Comparison(history).verdicts:
            pair = (curve.split(",")[0].lower() for curve in (verdict.curve, verdict.other))
            outcome, test, low, high = want[tuple(pair)]
            assert (verdict.outcome, verdict.test) == (outcome, test)
            assert (verdict.low, verdict.high) == pytest.approx((low, high), nan_ok=True, rel=1e-6)
            seen.add((outcome, test, images < 1000))
    assert len(seen) >= 8


@pytest.mark.parametrize("spread", ["normal", "skewed", "heavy", "binomial", 0.2, 0.5])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("curves", [2, 3, 6])
def test_equal_curves_are_rarely_told_apart(curves, seeds, spread):
    """Of 2,000 comparisons of equal curves at most 6.5 % have any false verdict.

    spread: that of a score, or the probability with which a seed diverges.
    """
    rng = np.random.default_rng(curves * seeds)
    shape = seeds, 2000, curves
    noise = {
        "skewed": lambda: rng.exponential(0.005, shape),
        "heavy": lambda: 0.005 * rng.standard_t(2, shape),
        "binomial": lambda: rng.binomial(IMAGES, 0.6, shape) / IMAGES - 0.6,
    }.get(spread, lambda: rng.normal(0, 0.005, shape))()
    of_seed = rng.normal(0, 0.01, (seeds, 2000, 1))  # common to all curves
    diverged = rng.random(shape) < (spread if isinstance(spread, float) else 0)
    scores = np.where(diverged, 0.1, np.round(0.6 + of_seed + noise, 4))
    tests = pair_tests(scores, diverged, FLOOR)
    assert (tests.outcome == SEPARABLE).any(axis=-1).mean() <= 0.065
    assert (tests.outcome != NOT_JUDGED).any()


def test_a_point_in_each_of_five_seeds_is_found():
    """Seeds differ by five points, so that the ranges overlap; paired, the difference is clear."""
    sgd = [0.60, 0.61, 0.62, 0.64, 0.65]
    comparison = Comparison(optimizers(adam=[a + 0.01 for a in sgd], sgd=sgd))
    (verdict,) = comparison.verdicts
    assert verdict.outcome == SEPARABLE
    assert str(verdict).endswith("points (+0.99 to +1.01), n = 5: separable")
    assert str(verdict.swapped()).endswith("points (-1.01 to -0.99), n = 5: separable")
    assert [row.row()["separable_from"] for row in summary(comparison)] == [
        "SGD, learning rate 0.1",
        "Adam, learning rate 0.001",
    ]


def test_a_pair_without_three_common_seeds_is_said_not_to_be_judged():
    history = optimizers(adam=[0.9, 0.91, 0.92], rmsprop=[0.5, 0.51, 0.52], sgd=[0.5])
    other = run("a", [0.1, 0.5], optimizer="adagrad", seed=9)
    rows = [row.row() for row in summary(Comparison(together(other, history)))]
    columns = ["separable_from", "not_separable_from", "not_judged_against"]
    adagrad, adam, rmsprop, sgd = (row["curve"] for row in rows)
    assert [[row[name] for name in columns] for row in rows] == [
        ["", "", f"{adam}; {rmsprop}; {sgd} (no common seed)"],
        [rmsprop, "", f"{adagrad} (no common seed); {sgd} (too few seeds)"],
        [adam, "", f"{adagrad} (no common seed); {sgd} (too few seeds)"],
        ["", "", f"{adagrad} (no common seed); {adam}; {rmsprop} (too few seeds)"],
    ]
    lines = list(map(str, Comparison(together(other, history)).verdicts))
    assert lines[0] == f"{adagrad} minus {adam}: not judged (no common seed)"
    assert lines[4] == f"{adam} minus {sgd}: +40.00 points, n = 1: not judged (too few seeds)"


def test_divergence_is_judged_by_its_counts():
    """Three diverged seeds beside none have no spread, so that a test of means would decide."""
    three = Comparison(optimizers(adam=[NAN] * 3, sgd=[0.6, 0.61, 0.62])).verdicts[0]
    assert (three.outcome, three.difference) == ("not judged", pytest.approx(0.1 - 0.61))
    assert str(three).endswith("not judged (diverged in 3 of 3 seeds, the other in none)")
    five = Comparison(optimizers(adam=[0.6] * 5, sgd=[NAN] * 5)).verdicts[0]
    assert str(five).endswith(
        "separable by Fisher's exact test (diverged in none of 5 seeds, the other in 5)"
    )


def test_an_unfinished_seed_is_not_judged_yet():
    history = optimizers(adam=[0.5, 0.5, 0.5, 0.5], sgd=[0.6, 0.6, 0.61, 0.6]).assign(epochs=2)
    rest = history[history["epoch"] == 1].assign(epoch=2)
    for ended, n in ((rest, 4), (rest[rest["run_id"] != "adam1"], 3)):
        assert Comparison(together(history, ended)).verdicts[0].n == n


def test_the_criterion_decides():
    falling = together(
        *(run(f"a{s}", [0.1, 0.9 + s / 100, 0.3], optimizer="adam", seed=s) for s in (1, 2, 3)),
        *(run(f"b{s}", [0.1, 0.5, 0.5 + s / 100], optimizer="sgd", seed=s) for s in (1, 2, 3)),
    )
    assert [Comparison(falling, c).verdicts[0].difference > 0 for c in ("last", "best")] == [
        False,
        True,
    ]


@pytest.mark.parametrize(("images", "apart"), [(20, 10), (100, 20)])
def test_two_images_are_no_difference_but_many_are(images, apart):
    """Seeds that agree, on a test set that is too small: its images bound the interval."""
    for more, separable in ((2, False), (apart, True)):
        scores = {"adam": [0.5] * 3, "sgd": [0.5 + more / images] * 3}
        comparison = Comparison(optimizers(**scores).assign(test_images=images))
        assert (comparison.verdicts[0].outcome == SEPARABLE) == separable
        row = summary(comparison)[0]
        assert (row.final_low, row.final_high) == pytest.approx(binomial(0.5, images, 0.05))


def test_seconds_are_judged_over_runs():
    """One epoch's jitter says nothing about the next run; so one run each is not judged."""

    def of(cpu, gpu):
        runs = (
            run(f"{name}{seed}", [0.1, 0.5, 0.6], optimizer=name, seed=seed, seconds=s)
            for name, seconds in (("adam", cpu), ("sgd", gpu))
            for seed, s in enumerate(seconds)
        )
        (verdict,) = Comparison(together(*runs)).verdicts_on_seconds
        return verdict

    one = of([2.2], [2.0])
    assert str(one).endswith(": 1.1 times, n = 1: not judged (one run each; another may differ)")
    noisy, clear = of([2.0, 2.6, 2.1], [2.1, 2.0, 2.2]), of([4.0, 4.2, 4.1], [2.0, 2.1, 2.1])
    assert [noisy.outcome, clear.outcome] == ["not separable", "separable"]
    logs = np.log([4.0, 4.2, 4.1]) - np.log([2.0, 2.1, 2.1])
    assert (clear.low, clear.high) == pytest.approx(
        stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    )
    assert of([2.01] * 3, [2.0] * 3).outcome == "not separable"  # no machine repeats so closely


@pytest.mark.parametrize("odd", ["many", 0, None])
def test_an_odd_number_of_images_is_taken_for_all(odd):
    history = run("a", [0.1, 0.5])
    assert evaluated_images(Comparison(history.assign(test_images=odd)).trainings) == 10_000
    assert evaluated_images(Comparison(history.assign(test_images=100)).trainings) == 100


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.64, 1.0])
def test_the_error_of_one_run_is_the_binomial_one(accuracy):
    wanted = stats.binomtest(round(accuracy * IMAGES), IMAGES).proportion_ci(method="wilson")
    assert wilson(accuracy, IMAGES) == pytest.approx(tuple(wanted), abs=1e-12)
    assert interval(np.array([accuracy]), IMAGES) == wilson(accuracy, IMAGES)
    assert above_chance(IMAGES) == pytest.approx(0.106, abs=1e-4)


def test_the_interval_of_a_mean():
    """From 1,000 images on, over the seeds alone; two seeds have none."""
    scores = np.array([0.60, 0.62, 0.66])
    wanted = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert interval(scores, 1000) == interval(scores, IMAGES) == pytest.approx(wanted)
    assert interval(np.array([0.0, 0.01, 0.03]), IMAGES)[0] == 0
    assert interval(np.array([1.0, 0.99, 0.97]), IMAGES)[1] == 1
    assert all(map(math.isnan, interval(scores[:2], IMAGES)))
    assert interval(np.full(3, 0.6), 999) == pytest.approx(binomial(0.6, 999, 0.05))
