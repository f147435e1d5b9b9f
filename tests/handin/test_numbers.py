"""Numbers and commands of a hand-in, on histories whose answer is known."""

import itertools

import pytest

from eml.handin.content import compose
from eml.handin.sheet import load_sheet
from support.handins import evidence, handin, lr_sweep, optimizers
from support.histories import run

BY_RECIPE = {a.recipe: (n, a) for n in ("ex2-2025", "ex3-2025") for a in load_sheet(n).trainings}


@pytest.fixture
def with_runs(tmp_path):
    """Makes a hand-in with other runs of one recipe."""
    return lambda recipe, *runs: handin(
        BY_RECIPE[recipe][0], tmp_path, of={recipe: evidence(*runs, recipe=recipe)}
    )


def test_seconds_are_written_as_people_write_them(with_runs):
    numbers = with_runs("mlp_numpy", run("a", [0.1, 0.6, 0.8], seconds=1170.4)).numbers
    assert numbers["mlp_numpy.seconds_per_epoch"].shown == "1,170"
    assert numbers["mlp_numpy.train_seconds"].shown == "2,341"


def test_numbers_equal_the_history(with_runs):
    made = with_runs("optimizers", *optimizers())
    numbers, runs = made.numbers, made.evidence["optimizers"]
    rows = runs.final.history[runs.final.history["optimizer"] == "adam"]
    last = rows[rows["epoch"] == 30].iloc[0]
    for name, value in {
        "final_test_accuracy": last["test_accuracy"],
        "final_test_loss": last["test_loss"],
        "train_seconds": last["train_seconds"],
        "learning_rate": 0.1,
        "epochs": 30,
        "n": 1,
    }.items():
        number = numbers[f"optimizers.adam.{name}"]
        assert number.value == pytest.approx(value, abs=0)
        assert number.runs == (last["run_id"],)
    tried = runs.tried.history
    for run_id, rows in tried[(tried["optimizer"] == "adam") & (tried["epoch"] > 15)].groupby(
        "run_id"
    ):
        number = numbers[f"optimizers.searched.adam.{rows['learning_rate'].iloc[0]:g}"]
        median = rows["validation_accuracy"].median()
        assert (number.value, number.runs) == (pytest.approx(median), (run_id,))


@pytest.mark.parametrize(
    ("recipe", "options", "names"),
    [
        ("mlp_numpy", [{}], [""]),
        ("mlp_numpy", [{"lr": 0.5}, {"lr": 1.0}], [".learning_rate_0.5", ".learning_rate_1"]),
        ("lr_sweep", [{"lr": 0.5}], [".0.5"]),
        ("lr_sweep", [{"lr": 0.5}, {"lr": 1.0}], [".0.5", ".1"]),
        (
            "lr_sweep",
            [{"batch_size": 32}, {"batch_size": 64}],
            [".batch_size_32", ".batch_size_64"],
        ),
    ],
)
def test_each_curve_has_numbers_of_its_own(recipe, options, names, with_runs):
    runs = [run(str(n), [0.1, 0.5], **of) for n, of in enumerate(options)]
    numbers = with_runs(recipe, *runs).numbers
    ours = [name for name in numbers if name.startswith(recipe) and name.endswith(".n")]
    assert ours == [f"{recipe}{name}.n" for name in names]


def test_the_numbers_of_a_pair_are_there_in_both_directions(with_runs):
    runs = [
        run(f"{lr}{seed}", [0.1, lr * (0.9 + seed / 99)], lr=lr, seed=seed, seconds=2000 + 99 * lr)
        for lr, seed in itertools.product((0.1, 0.5, 1.0), (1, 2, 3))
    ]
    numbers = with_runs("lr_sweep", *runs).numbers
    assert numbers["lr_sweep.1.train_seconds"].shown == "2,099"  # not 2.1e+03
    for one, other in itertools.permutations(("0.1", "0.5", "1"), 2):
        here, back = f"lr_sweep.{one}.{{}}_to_{other}", f"lr_sweep.{other}.{{}}_to_{one}"
        for key, opposite in {"difference": "difference", "low": "high", "high": "low"}.items():
            number, reverse = numbers[here.format(key)], numbers[back.format(opposite)]
            assert number.value == -reverse.value != 0
            assert {*number.runs} == {*reverse.runs}
        ratios = [numbers[name.format("seconds_ratio")].value for name in (here, back)]
        assert ratios[0] * ratios[1] == pytest.approx(1)


def test_numbers_of_the_exact_step(tmp_path):
    numbers = handin("ex3-2025", tmp_path).numbers
    assert (numbers["gradients.L"].shown, numbers["gradients.f"].shown) == ("2", "0.25")
    assert numbers["gradients.dL/dw1.5.3"].value == -2


def test_the_commands_are_those_that_were_typed(tmp_path):
    """An older store does not tell them: the recipe's stands there."""
    rates, typed = lr_sweep(), "eml lr_sweep --lrs 1,0.5,0.1,0.05,0.001 --seeds 1,2"
    told = evidence(*(rows.assign(command=typed) for rows in rates[1:]), rates[0])
    made = handin("ex2-2025", tmp_path, of={"lr_sweep": told})
    assert compose(made)["commands"] == ["eml mlp_numpy", typed, "eml lr_sweep"]
    assert compose(handin("ex3-2025", tmp_path))["commands"] == [
        "eml gradients",
        *(f"eml {recipe}" for recipe in ("cpu_vs_gpu", "mlp_vs_cnn", "optimizers")),
    ]
