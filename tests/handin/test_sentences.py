"""The sentences under a figure are true of histories whose answer is known."""

import re

import pytest

from eml.handin.content import compose
from eml.handin.sentences import sentences
from eml.handin.sheet import load_sheet
from support.handins import evidence, handin, lr_sweep, sheet3, torch_run
from support.histories import NAN, run

ACCURACY, CLOCK = "test_accuracy_over_epochs", "test_accuracy_over_train_seconds"
BY_RECIPE = {a.recipe: (n, a) for n in ("ex2-2025", "ex3-2025") for a in load_sheet(n).trainings}


@pytest.fixture
def text_of(tmp_path):
    """Returns the sentences under a figure of a hand-in with these runs, filled in."""

    def text(recipe, figure, *runs):
        sheet, assignment = BY_RECIPE[recipe]
        made = handin(sheet, tmp_path, of={recipe: evidence(*runs, recipe=recipe)})
        lines = sentences(assignment, figure, made.curves[recipe], made.evidence[recipe].final)
        return "\n".join(map(made.fill, lines)).replace("\N{NO-BREAK SPACE}", " ")

    return text


def rates(*finals, seeds=(1,), start=0.1, **options):
    """Runs of lr_sweep at descending rates, of two epochs: the last accuracies of each."""
    return [
        run(f"{rate}{seed}", [start, of, of], lr=rate, seed=seed, **options)
        for rate, of in zip((1.0, 0.5, 0.1), finals, strict=False)
        for seed in seeds
    ]


def test_the_lowest_loss(text_of):
    rows = run("a", [0.1, 0.5, 0.8, 0.8]).assign(test_loss=[2.4, 1.2, 0.9, 1.5])
    text = text_of("mlp_numpy", "loss_over_epochs", rows)
    assert text == "The lowest test loss is 0.9, in epoch 2."


def test_one_run_and_several_seeds(text_of):
    assert text_of("mlp_numpy", ACCURACY, run("a", [0.1, 0.6, 0.8, 0.7])) == (
        "Test accuracy after epoch 3: 70.00 %.\nBest test accuracy: 80.00 %, in epoch 2."
    )
    seeds = [run(str(s), [0.1, 0.5, 0.9, 0.7 + s / 100], seed=s) for s in (1, 2, 3)]
    assert text_of("mlp_numpy", ACCURACY, *seeds) == (
        "Test accuracy after epoch 3: 72.00 % (mean of 3 runs, 71.00 % to 73.00 %).\n"
        "Best test accuracy (mean of the runs' own best): 90.00 %, in epoch 2."
    )
    # The best is the mean of 0.9 and 0.8: the mean curve has 0.75 at most.
    apart = [run("1", [0.1, 0.9, 0.6], seed=1), run("2", [0.1, 0.5, 0.8], seed=2)]
    text = text_of("mlp_numpy", ACCURACY, *apart)
    assert text.endswith(
        "Best test accuracy (mean of the runs' own best): 85.00 %, in epochs 1, 2."
    )


def test_order_and_seconds_of_two_curves(text_of):
    mlp = torch_run("4", 0, model="mlp", activation="sigmoid", epochs=3, seconds=1)[:4]
    cnn = torch_run("5", 0, epochs=3, seconds=10)[:4]
    runs = (
        mlp.assign(test_accuracy=[0.1, 0.35, 0.4, 0.42]),
        cnn.assign(test_accuracy=[0.1, 0.3, 0.5, 0.6]),
    )
    assert text_of("mlp_vs_cnn", ACCURACY, *runs) == (
        "Test accuracy after epoch 3, in descending order: CNN with 60.00 %, MLP with 42.00 %.\n"
        "Best test accuracy: 60.00 % (CNN), in epoch 3.\n"
        "These differences are not judged (too few seeds): other seeds could change the order."
    )
    assert text_of("mlp_vs_cnn", CLOCK, *runs) == (
        "CNN: 30 s of training, 10 s per epoch.\nMLP: 3 s of training, 1 s per epoch.\n"
        "Per epoch, CNN takes 10 times as long as MLP (one run each; another may differ)."
    )


def test_equal_curves_have_no_order_and_no_leader(text_of):
    text = text_of("lr_sweep", ACCURACY, *rates(0.5, 0.5, 0.5))
    assert text == (
        "Test accuracy after epoch 2: learning rate 0.1 with 50.00 %, learning rate 0.5 with "
        "50.00 %, learning rate 1 with 50.00 %.\n"
        "Best test accuracy: 50.00 % (learning rate 0.1 in epoch 1, learning rate 0.5 in epoch 1, "
        "learning rate 1 in epoch 1).\n"
        "These differences are not judged (too few seeds): other seeds could change the order."
    )
    # What is equal as printed is a tie, too.
    text = text_of("lr_sweep", ACCURACY, *rates(0.5, 0.50001))
    assert "in descending order" not in text


def test_the_ends_of_curves_of_other_lengths_are_not_compared(text_of):
    long = run("a", [0.1, 0.2, 0.3, 0.9], lr=1.0, epochs=3)
    short = run("b", [0.1, 0.5], lr=0.1, epochs=1)
    assert text_of("lr_sweep", ACCURACY, long, short) == (
        "These differences are not judged (too few seeds): other seeds could change the order."
    )


@pytest.mark.parametrize("cut", ["diverged", "unfinished"])
def test_no_epoch_is_named_that_was_not_trained(text_of, cut):
    """A training of 30 epochs that diverged in epoch 3, or ended after 4."""
    accuracies = [0.1, 0.5, 0.8, NAN] if cut == "diverged" else [0.1, 0.5, 0.6, 0.7, 0.8]
    runs = [run("c", accuracies, lr=1.0, epochs=30)]
    for beside in ((), lr_sweep((0.5, 0.1))):
        for figure in BY_RECIPE["lr_sweep"][1].figures:
            text = text_of("lr_sweep", figure, *runs, *beside)
            epochs = [
                int(n) for line in text.splitlines() for n in re.findall(r"epochs? (\d+)", line)
            ]
            assert max(epochs, default=0) <= (30 if beside else len(accuracies) - 1)
            for line in text.splitlines():
                assert "rate 1 " not in line.replace("rate 1 diverged", "") or "of training" in line
    assert ("Learning rate 1 diverged in epoch 3." in text) == (cut == "diverged")


def test_every_diverged_seed_is_told(text_of):
    runs = [run(f"d{s}", [0.1, *[0.5] * s, NAN], lr=1.0, seed=s, epochs=30) for s in (1, 2)]
    runs += lr_sweep((0.5,))
    text = text_of("lr_sweep", ACCURACY, *runs)
    assert text.endswith("Learning rate 1 diverged in 2 of 2 runs, in epochs 2, 3.")


def test_names_keep_their_letters_at_the_beginning_of_a_sentence(text_of):
    runs = [
        torch_run(n, 0, optimizer=n, epochs=3)[:4].assign(test_accuracy=[0.1, 0.2, 0.3, NAN])
        for n in ("adam", "sgd")
    ]
    text = text_of("optimizers", ACCURACY, *runs)
    assert [line.split()[0] for line in text.splitlines()] == ["These", "Adam", "SGD"]


def test_every_kind_of_verdict_is_in_the_table_of_pairs(tmp_path):
    def of(*curves):
        rows = [row for curve in curves for row in curve]
        made = handin("ex2-2025", tmp_path, of={"lr_sweep": evidence(*rows)})
        results = compose(made)["answers"][1]["results"]
        tables = [table for table in results if table.get("caption") == "Pairs of curves"]
        return [row for table in tables for row in table["rows"]]

    tops = {1.0: (0.73, 0.7, 0.73), 0.5: (0.71,) * 3, 0.1: (0.3,) * 3}
    three = [
        [run(f"{rate}{s}", [0.1, top + s / 1000], lr=rate, seed=s) for s, top in enumerate(of)]
        for rate, of in tops.items()
    ]
    near, *_, far = sorted(of(*three), key=lambda row: abs(float(row[1])))
    assert near[0] == "learning rate 0.5 - learning rate 1"
    assert (near[1], near[3]) == ("-1.00", "not separable")
    assert re.fullmatch(r"-\d+\.\d\d to \+\d+\.\d\d", near[2])
    assert far[3] == "separable"
    lonely = [run("e", [0.1, 0.5], lr=0.05)]
    alone = "not judged (too few seeds)"
    assert [row[3] for row in of(three[0], three[2], lonely)] == [alone, alone, "separable"]
    failed = [run(f"f{s}", [0.1, NAN], lr=0.05, seed=s) for s in range(5)]
    five = [run(f"g{s}", [0.1, 0.6], lr=0.1, seed=s) for s in range(5)]
    ((*_, outcome),) = of(failed, five)
    assert outcome == "separable (diverged in 5 of 5 seeds, the other in none)"
    assert of(failed[:3], five[:3]) == []  # no pair is judged: a sentence says so


def test_seconds_are_told_apart_over_runs_alone(text_of):
    rows = sheet3()["cpu_vs_gpu"].final.history
    text = text_of("cpu_vs_gpu", CLOCK, rows)
    assert "Per epoch, CPU takes 4 times as long as GPU (one run each; another may differ)." in text
    alike = "The times per epoch of CPU and GPU are not told apart"
    text = text_of("cpu_vs_gpu", CLOCK, rows.assign(train_seconds=rows["epoch"] * 2.0))
    assert text.endswith(f"{alike} (one run each; another may differ).")
    # One epoch each has no jitter to compare with; two have.
    for epochs in (1, 2):
        part = rows[rows["epoch"] <= epochs].assign(epochs=epochs)
        assert (alike in text_of("cpu_vs_gpu", CLOCK, part)) == (epochs == 1)
    # Three runs each, of which one is slow: the mean is 1.3 times that of the other.
    slow = [
        rows[rows["device_type"] == device].assign(
            run_id=f"{device}{seed}", seed=seed, train_seconds=rows["epoch"] * seconds
        )
        for device, of in {"cpu": (2.0, 3.8, 2.0), "cuda": (2.0, 2.0, 2.0)}.items()
        for seed, seconds in enumerate(of)
    ]
    assert f"{alike}." in text_of("cpu_vs_gpu", CLOCK, *slow)


def test_no_trend_is_told(text_of):
    """A rise, a dip that happens to be last, and a tie: no sentence speaks of them."""
    for losses in ([2.3, 1, 0.9, 1.5], [2.3, 1, 1.2, 0.8], [2.3, 1, 1, 1]):
        rows = run("a", [0.1, 0.5, 0.6, 0.6], losses=losses)
        for figure in BY_RECIPE["mlp_numpy"][1].figures:
            text = text_of("mlp_numpy", figure, rows)
            assert not re.search("still|falls|rises|leads|gains", text)
