"""What makes a comparison unfair is listed, and what looks wrong is warned of."""

import pytest

from eml.analysis.fairness import differences, warnings
from support.histories import run, together

FAIR = together(
    *(
        run(f"{lr}{seed}", [0.1, 0.5], lr=lr, seed=seed, subset=500)
        for lr in (0.1, 0.01)
        for seed in (1, 2)
    )
)


def test_a_fair_comparison_has_no_differences():
    assert differences(FAIR) == []
    assert warnings(FAIR) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"batch_size": 32}, "batch size: 64 (learning rate 0.01, batch size 64), 32 (learning"),
        ({"subset": 100}, "subset: 0 ("),
        ({"epochs": 5}, "epochs: 1 ("),
        ({"dtype": "float64"}, "dtype: float32 ("),
        ({"tags": {"hardware": "b CPU"}}, "hardware: a CPU (learning rate 0.01), b CPU (learning"),
        ({"tags": {"git_commit": "1" * 40}}, "git commit: 000000000 (learning rate 0.01), 1111"),
        ({"tags": {"dataset_digest": "other"}}, "data digest: mnist 0 1 ("),
        ({"seed": 2}, "seeds: 1 (learning rate 0.01), 2 (learning rate 0.1)"),
    ],
)
def test_an_unfair_pair(change, line):
    pair = together(run("a", [0.1, 0.5], lr=0.01), run("b", [0.1, 0.5], lr=0.1, **change))
    assert any(found.startswith(line) for found in differences(pair)), differences(pair)


def test_a_difference_within_every_curve_is_listed_too():
    runs = [
        run(f"{lr}{seed}", [0.1, 0.5], lr=lr, seed=seed, tags={"hardware": f"CPU {seed}"})
        for lr in (0.1, 0.01)
        for seed in (1, 2)
    ]
    assert differences(together(*runs)) == ["hardware: CPU 1, CPU 2"]


def test_trainings_that_shared_the_machine_are_named():
    alone, shared = (
        run(f"{n}", [0.1, 0.5], lr=0.1 / n, tags={"trainings_at_once": str(n)}) for n in (1, 2)
    )
    (line,) = differences(together(alone, shared))
    assert line == "trainings at once: 2 (learning rate 0.05), 1 (learning rate 0.1)"


def test_other_hardware_is_the_point_of_comparing_devices():
    cpu, gpu = run("a", [0.1, 0.5]), run("b", [0.1, 0.5], tags={"hardware": "a GPU"})
    gpu["device_type"] = "cuda"
    assert differences(together(cpu, gpu)) == []


def test_what_alone_is_compared_is_no_difference():
    pair = together(run("a", [0.1, 0.5]), run("b", [0.1, 0.5], batch_size=32))
    assert differences(pair) == []


def test_one_seed_is_warned_of():
    assert warnings(run("a", [0.1, 0.5])) == ["one seed, so no spread: all runs"]


def test_identical_histories_of_different_parameters():
    losses = [2.3, 1.5]
    pair = together(
        run("a", [0.1, 0.5], lr=0.1, losses=losses), run("b", [0.1, 0.5], lr=0.2, losses=losses)
    )
    assert "identical histories, different parameters: runs a and b" in warnings(pair)
    # The same on another device is what one hopes for.
    gpu = run("b", [0.1, 0.5], lr=0.1, losses=losses)
    gpu["device_type"] = "cuda"
    alike = together(run("a", [0.1, 0.5], lr=0.1, losses=losses), gpu)
    assert not any("identical" in line for line in warnings(alike))


def test_accuracy_at_chance():
    (line,) = [line for line in warnings(run("a", [0.1, 0.1])) if "chance" in line]
    assert line == "at chance after the last epoch, 10.0%: mlp_numpy sgd lr=0.1 seed=1, run a"


def test_epochs_that_are_missing_are_named():
    gap = run("a", [0.1, 0.4, 0.5])[lambda rows: rows["epoch"] != 1]
    assert "only 2 of 3 epochs have an accuracy: mlp_numpy sgd lr=0.1 seed=1, run a" in warnings(
        gap
    )
    # One that ended early is in the summary.
    assert not any("only" in line for line in warnings(run("a", [0.1, 0.5], epochs=9)))
