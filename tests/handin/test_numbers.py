"""Numbers, generated sentences and commands, on histories whose answer is known."""

import itertools

import pytest

from eml.handin.content import command
from eml.handin.handin import Handin
from eml.handin.numbers import sentences
from eml.handin.sheet import load_sheet
from support.handins import evidence, handin, lr_sweep, mlp_numpy, optimizers, sheet3, torch_run
from support.histories import NAN, run

BY_RECIPE = {a.recipe: (n, a) for n in ("ex2-2025", "ex3-2025") for a in load_sheet(n).trainings}


@pytest.fixture
def with_runs(tmp_path):
    """Makes a hand-in with other runs of one recipe."""
    return lambda recipe, *runs: handin(
        BY_RECIPE[recipe][0], tmp_path, of={recipe: evidence(*runs, recipe=recipe)}
    )


def text_of(recipe: str, figure: str, made: Handin) -> str:
    final = made.evidence[recipe].final
    lines = sentences(BY_RECIPE[recipe][1], figure, made.curves[recipe], final.verdicts)
    return "\n".join(map(made.fill, lines)).replace("\N{NO-BREAK SPACE}", " ")


def test_the_lowest_loss(with_runs):
    rows = run("a", [0.1, 0.5, 0.8, 0.8]).assign(test_loss=[2.4, 1.2, 0.9, 1.5])
    text = text_of("mlp_numpy", "loss_over_epochs", with_runs("mlp_numpy", rows))
    assert text == "The lowest test loss is 0.9, in epoch 2."


def test_seconds_are_written_as_people_write_them(with_runs):
    numbers = with_runs("mlp_numpy", run("a", [0.1, 0.6, 0.8], seconds=1170.4)).numbers
    assert numbers["mlp_numpy.seconds_per_epoch"].shown == "1,170"
    assert numbers["mlp_numpy.train_seconds"].shown == "2,341"


def test_one_run_and_several_seeds(with_runs):
    made = with_runs("mlp_numpy", run("a", [0.1, 0.6, 0.8, 0.7]))
    assert text_of("mlp_numpy", "test_accuracy_over_epochs", made) == (
        "Test accuracy after epoch 3: 70.00 %.\nBest test accuracy: 80.00 %, in epoch 2."
    )
    seeds = [run(str(s), [0.1, 0.5, 0.9, 0.7 + s / 100], seed=s) for s in (1, 2, 3)]
    made = with_runs("mlp_numpy", *seeds)
    assert text_of("mlp_numpy", "test_accuracy_over_epochs", made) == (
        "Test accuracy after epoch 3: 72.00 % (mean of 3 runs, 71.00 % to 73.00 %).\n"
        "Best test accuracy: 90.00 %, in epochs 2, 2, 2."
    )


def test_order_and_seconds_of_two_curves(with_runs):
    mlp = torch_run("4", 0, model="mlp", activation="sigmoid", epochs=3, seconds=1)[:4]
    cnn = torch_run("5", 0, epochs=3, seconds=10)[:4]
    made = with_runs(
        "mlp_vs_cnn",
        mlp.assign(test_accuracy=[0.1, 0.35, 0.4, 0.42]),
        cnn.assign(test_accuracy=[0.1, 0.3, 0.5, 0.6]),
    )
    assert text_of("mlp_vs_cnn", "test_accuracy_over_epochs", made) == (
        "Test accuracy after epoch 3, in descending order: CNN 60.00 %, MLP 42.00 %.\n"
        "Best test accuracy: 60.00 % (CNN), in epoch 3.\n"
        "With n = 1 there are too few seeds to tell which of these differences are more than "
        "chance."
    )
    assert text_of("mlp_vs_cnn", "test_accuracy_over_train_seconds", made) == (
        "CNN: 30 s of training, 10 s per epoch.\nMLP: 3 s of training, 1 s per epoch.\n"
        "Per epoch, CNN takes 10 times as long as MLP."
    )


def test_seconds_that_overlap_are_not_ranked(with_runs):
    rows = sheet3()["cpu_vs_gpu"].final.history
    text = text_of("cpu_vs_gpu", "test_accuracy_over_train_seconds", with_runs("cpu_vs_gpu", rows))
    assert "Per epoch, CPU takes 4 times as long as GPU." in text
    made = with_runs("cpu_vs_gpu", rows.assign(train_seconds=rows["epoch"] * 2.0))
    text = text_of("cpu_vs_gpu", "test_accuracy_over_train_seconds", made)
    assert text.endswith("The epoch times of CPU and GPU overlap.")


def test_curves_that_are_not_separable(with_runs):
    runs = []
    for seed in (1, 2, 3):
        for rate, top in ((1.0, 0.7 + 0.03 * (seed % 2)), (0.5, 0.71), (0.1, 0.3)):
            runs.append(run(f"{rate}{seed}", [0.1, top + seed / 1000], lr=rate, seed=seed))
    text = text_of("lr_sweep", "test_accuracy_over_epochs", with_runs("lr_sweep", *runs))
    assert (
        "Learning rate 0.5 and learning rate 1 are not separable (difference -1.00 points, 95 % "
        "interval -"
    ) in text
    assert text.endswith("All other differences after the last epoch are separable at 95 %.")


def test_a_diverged_run_is_named_and_not_ranked(with_runs):
    diverged = run("d", [0.1, NAN], lr=1.0, epochs=30)
    made = with_runs("lr_sweep", *lr_sweep((0.5, 0.1)), diverged)
    text = text_of("lr_sweep", "test_accuracy_over_epochs", made)
    assert "Learning rate 1 diverged in epoch 1." in text
    assert "learning rate 1 " not in text


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
    grid = tried[(tried["optimizer"] == "adam") & (tried["epoch"] == 30)]
    for _, row in grid.iterrows():
        number = numbers[f"optimizers.tried.adam.{row['learning_rate']:g}"]
        assert (number.value, number.runs) == (row["validation_accuracy"], (row["run_id"],))


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


def test_the_command_that_trains_a_recipe_again():
    def of(recipe, *runs):
        return command(BY_RECIPE[recipe][1], evidence(*runs, recipe=recipe))

    assert of("mlp_numpy", mlp_numpy()) == "eml mlp_numpy"
    assert of("mlp_numpy", mlp_numpy(seed=4, subset=5000)) == "eml mlp_numpy --subset 5000 --seed 4"
    seeds = [
        rows.assign(run_id=f"{seed}" + rows["run_id"])
        for seed in (1, 2)
        for rows in lr_sweep(seed=seed)
    ]
    assert of("lr_sweep", *seeds) == "eml lr_sweep --lrs 1,0.5,0.1,0.05,0.001 --seeds 1,2"
    assert of("optimizers", *optimizers()) == ("eml optimizers --lrs 0.1,0.01 --search_epochs 30")
    assert of("cpu_vs_gpu", sheet3()["cpu_vs_gpu"].final.history) == "eml cpu_vs_gpu"
