"""What makes a comparison unfair is listed, and what looks wrong is warned of."""

import pytest

from eml.analysis import fairness
from eml.analysis.comparison import Comparison
from support.histories import NAN, run, together


def differences(history, seconds=True) -> list[str]:
    return fairness.differences(Comparison(history), seconds)


def warnings(history) -> list[str]:
    return fairness.warnings(Comparison(history))


PAIRS = [(lr, seed) for lr in (0.1, 0.01) for seed in (1, 2)]
FAIR = together(*(run(f"{r}{s}", [0.1, 0.5], lr=r, seed=s, subset=500) for r, s in PAIRS))


@pytest.mark.parametrize(
    "history",
    [
        FAIR,
        # What alone is compared is no difference, and other hardware is the point of devices.
        together(run("a", [0.1, 0.5]), run("b", [0.1, 0.5], batch_size=32)),
        together(
            run("a", [0.1, 0.5]),
            run("b", [0.1, 0.5], tags={"hardware": "a GPU"}).assign(device_type="cuda"),
        ),
    ],
)
def test_a_fair_comparison_has_no_differences(history):
    assert differences(history) == []


def test_one_seed_is_warned_of():
    assert warnings(FAIR) == []
    assert warnings(run("a", [0.1, 0.5])) == ["one seed, so no spread"]
    one_of_two = together(FAIR, run("e", [0.1, 0.5], lr=0.5, subset=500))
    assert warnings(one_of_two) == ["one seed, so no spread: learning rate 0.5"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"batch_size": 32}, "batch size: 64 (learning rate 0.01, batch size 64), 32 (learning"),
        ({"subset": 100}, "subset: 0 ("),
        ({"epochs": 5}, "epochs: 1 ("),
        ({"dtype": "float64"}, "dtype: float32 ("),
        ({"tags": {"threads": "2"}}, "threads: nan ("),
        ({"tags": {"hardware": "b CPU"}}, "hardware: a CPU (learning rate 0.01), b CPU (learning"),
        ({"tags": {"git_commit": "1" * 40}}, "git commit: 000000000 (learning rate 0.01), 1111"),
        ({"tags": {"dataset_digest": "other"}}, "dataset digest: mnist 0 1 ("),
        ({"seed": 2}, "seed: 1 (learning rate 0.01), 2 (learning rate 0.1)"),
    ],
)
def test_an_unfair_pair(change, line):
    pair = together(run("a", [0.1, 0.5], lr=0.01), run("b", [0.1, 0.5], lr=0.1, **change))
    assert any(other.startswith(line) for other in differences(pair)), differences(pair)


def test_a_difference_within_every_curve_is_listed_too():
    runs = [
        run(f"{lr}{seed}", [0.1, 0.5], lr=lr, seed=seed, tags={"hardware": f"CPU {seed}"})
        for lr, seed in PAIRS
    ]
    assert differences(together(*runs)) == ["hardware: CPU 1, CPU 2"]


def test_nothing_but_the_first_of_what_differs_is_compared():
    adam = run("a", [0.1, 0.5], optimizer="adam")
    sgd = run("b", [0.1, 0.5], optimizer="sgd")
    assert differences(together(adam, sgd)) == []  # each at its own learning rate
    sgd["activation"] = "sigmoid"
    (line,) = differences(together(adam, sgd))
    assert line.startswith("activation: relu (Adam")
    for name, line in (("scaling_mean", "scaling mean: 0.0"), ("test_images", "test images: 0.0")):
        other = run("b", [0.1, 0.5], optimizer="sgd").assign(**{name: 1.0})
        both = together(adam.assign(**{name: 0.0}), other)
        assert [other.partition(" (")[0] for other in differences(both)] == [line]


def test_epochs_that_swing_are_warned_of():
    swinging = run("a", [0.1, 0.4, 0.5, 0.6, 0.7])
    swinging["train_seconds"] = [0, 2, 22, 24, 44]
    (line,) = [line for line in warnings(swinging) if "disturbed" in line]
    assert line == "the machine was probably disturbed: 2 to 20 s an epoch in run a"
    assert not any("disturbed" in line for line in warnings(FAIR))
    five = together(*(swinging.assign(run_id=name, seed=n) for n, name in enumerate("abcde")))
    (line,) = [line for line in warnings(five) if "disturbed" in line]
    assert line.count("run ") == 3
    assert line.endswith("run c; and 2 more")


def test_epochs_that_were_slow_and_threads_that_changed_are_warned_of():
    disturbed = run("a", [0.1, 0.4, 0.5, 0.6], tags={"threads": "2"})
    disturbed["next_threads"] = [2, 2, 1, 1]
    disturbed["slowdown"] = [NAN, 1.1, 3.04, 1.0]
    (line,) = [line for line in warnings(disturbed) if "processor" in line]
    assert line == (
        "something else had the processor: up to 3.0 times as long as when idle in 1 of 3 "
        "epochs, threads: 1 from epoch 3 in run a"
    )
    quiet = disturbed.assign(next_threads=2, slowdown=1.2, train_cpu_seconds=12.0)
    assert not any("processor" in line for line in warnings(quiet))


@pytest.mark.parametrize(("cpu_seconds", "warned"), [(3.9, False), (1.5, True)])
def test_a_training_that_did_not_get_the_processor_is_warned_of(cpu_seconds, warned):
    disturbed = run("a", [0.1, 0.5], tags={"threads": "2"})  # 2 s
    disturbed["train_cpu_seconds"] = [0, cpu_seconds]
    assert any("CPU seconds" in line for line in warnings(disturbed)) == warned
    gpu = disturbed.assign(device_type="cuda")  # a GPU computes while the CPU waits
    assert not any("CPU seconds" in line for line in warnings(gpu))


@pytest.mark.parametrize("name", ["threads", "trainings_at_once"])
def test_what_affects_the_seconds_alone_differs_only_where_these_count(name):
    runs = [run(n, [0.1, 0.5], lr=rate, tags={name: n}) for n, rate in (("1", 0.1), ("2", 0.2))]
    (line,) = differences(together(*runs))
    assert line.startswith(name.replace("_", " "))
    assert differences(together(*runs), seconds=False) == []


def test_accuracy_at_chance():
    # 10.1 % is chance on any test set, 10.7 % is not on one of 10,000 images.
    assert any("chance" in line for line in warnings(run("a", [0.1, 0.101])))
    assert not any("chance" in line for line in warnings(run("a", [0.1, 0.107])))
    (line,) = [line for line in warnings(run("a", [0.1, 0.1])) if "chance" in line]
    assert line == "at chance after the last epoch, 10.0%: run a"
