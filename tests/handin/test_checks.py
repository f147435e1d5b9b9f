"""Every rule of the sheets is met by a whole hand-in, and broken by the mistake that it names."""

import pytest

from eml.errors import UserError
from eml.handin.content import compose
from eml.handin.handin import checks
from support.handins import RATES, evidence, handin, lr_sweep, mlp_numpy, optimizers, torch_run
from support.histories import NAN

LOSS = ("2.2", "mlp_numpy", "loss_over_epochs")
MISSPELT = "In {{mlp_numpy.best_epch}}."
NO_NUMBER = "there is no number {{mlp_numpy.best_epch}}: the nearest are mlp_numpy.best_epoch, "


def failed(made) -> list[str]:
    return [str(check) for check in checks(made) if check.why]


@pytest.mark.parametrize("sheet", ["ex2-2025", "ex3-2025"])
def test_a_whole_handin_meets_every_rule(sheet, tmp_path):
    made = handin(sheet, tmp_path)
    assert failed(made) == []
    assert made.draft == []
    assert len(checks(made)) > 20


def names(*people):
    return lambda form: form.update(names=list(people))


def exercise(number, **values):
    return lambda form: form["exercise"][number].update(values)


def plot(number, recipe, figure, **values):
    return lambda form: form["exercise"][number][recipe][figure].update(values)


def unfinished():
    whole = mlp_numpy()
    return whole[whole["epoch"] <= 17]


FORM = {
    "a name twice": (names("Ada", "Ada"), "top sheet: names: write each name into names, once"),
    "a blank name": (names("Ada", " "), "top sheet: names: write each name"),
    "five names": (names(*"abcde"), "at most 4 names: there are 5"),
    "not declared": (exercise("2.2", present=""), "2.2: willingness to present declared: write"),
    "willing, not handed in": (exercise("2.1", hand_in=False), "2.1: declared only for exercises"),
    "no review": (exercise("2.1", review=" "), "2.1: review of the paper: the text is empty"),
    "a review's file is missing": (exercise("2.1", review="a.md"), "2.1: review of the paper: "),
    "nothing expected": (plot(*LOSS, expected="\n"), "loss_over_epochs: expected: the text is"),
    "a misspelt number": (plot(*LOSS, discussion=MISSPELT), f"discussion: {NO_NUMBER}"),
    "in the review": (exercise("2.1", review=f"# R\n{MISSPELT}"), f"of the paper: {NO_NUMBER}"),
    "no image": (plot(*LOSS, discussion="![x](no.png)"), "discussion: there is no no.png"),
    "no alternative": (plot(*LOSS, discussion="![](a.png)"), "a.png needs an alternative text"),
    "another ending": (plot(*LOSS, expected="![x](a.exe)"), "an ending of .png, .jpg, .jpeg, .svg"),
}


@pytest.mark.parametrize(("change", "line"), FORM.values(), ids=FORM)
def test_a_mistake_in_the_form_breaks_its_rule_alone(change, line, tmp_path):
    def read(path: str):
        raise UserError(f"there is no {path}")

    made = handin("ex2-2025", tmp_path, change)
    made.read = read
    (broken,) = failed(made)
    assert line in broken


def test_a_form_that_hands_in_nothing_is_refused(tmp_path):
    def nothing(form):
        for values in form["exercise"].values():
            values.update(hand_in=False, present=False)

    line = "top sheet: an exercise is handed in: hand_in is false for all"
    assert any(line in broken for broken in failed(handin("ex2-2025", tmp_path, nothing)))


def test_texts_are_checked_before_all_is_trained(tmp_path):
    change = plot(*LOSS, discussion="{{mlp_numpy.n}}", expected="{{lr_sweep.0.1.m}}")
    made = handin("ex2-2025", tmp_path, change)
    del made.evidence["mlp_numpy"]
    made.problems["mlp_numpy"] = UserError("no run")
    unknown, untrained, recipe = failed(made)
    assert "the nearest are lr_sweep.0.1.n, " in unknown
    assert "{{mlp_numpy.n}} needs a training of mlp_numpy" in untrained
    assert "trained: no run" in recipe


SHORT = [run.assign(epochs=20)[run["epoch"] <= 20] for run in lr_sweep()]
OUTSIDE = lr_sweep((*RATES[:4], 0.0001))
FOUND = "five learning rates between 1 and 0.001: found learning rate 0.0001, learning rate 0.05, "
NUMPY = "mlp_numpy: the MLP by hand, in NumPy: found PyTorch"
NO_LOSS = "loss_over_epochs: drawn: the runs have no test_loss"
RUNS2 = {
    "20 epochs": ("lr_sweep", SHORT, "lr_sweep: 30 epochs: found epochs 20"),
    "a subset": ("mlp_numpy", [mlp_numpy(subset=5000)], "found subset of 5000 images"),
    "a fifth rate outside": ("lr_sweep", OUTSIDE, FOUND),
    "another rate": ("mlp_numpy", [mlp_numpy(lr=0.5)], "learning rate: found learning rate 0.5"),
    "not by hand": ("mlp_numpy", [mlp_numpy().assign(framework="torch")], NUMPY),
    "unfinished": ("mlp_numpy", [unfinished()], "every training has ended: run 1111"),
    "no test loss": ("mlp_numpy", [mlp_numpy().assign(test_loss=NAN)], NO_LOSS),
}
ON_CPU = torch_run("2", 0.98, dataset="mnist", model="mlp", learning_rate=0.1)
MLP, CNN = torch_run("4", 0.4, model="mlp"), torch_run("5", 0.6)
SCALED = [rows.assign(scaling_mean=0.1307) for rows in (MLP, CNN)]
UNTIMED = [rows.assign(train_seconds=NAN) for rows in (MLP, CNN)]
WITHOUT_ADAM = optimizers(("sgd", "momentum", "rmsprop"))
TWO_RATES = [*optimizers(), torch_run("9", 0.5, optimizer="adam", learning_rate=0.01)]
RUNS3 = {
    "no GPU": ("cpu_vs_gpu", [ON_CPU], "on the CPU and on the GPU: found CPU"),
    "no CNN": ("mlp_vs_cnn", [MLP], "3.3: mlp_vs_cnn: the MLP and the CNN: found MLP"),
    "MNIST's normalization": ("mlp_vs_cnn", SCALED, "mean: found scaling mean 0.1307"),
    "no seconds": ("mlp_vs_cnn", UNTIMED, "drawn: the runs have no train_seconds"),
    "two optimizers": ("optimizers", optimizers(("sgd", "adam")), "optimizers: found Adam, SGD"),
    "no Adam": (
        "optimizers",
        WITHOUT_ADAM,
        "SGD and Adam among them: found SGD with momentum, RMSprop, SGD",
    ),
    "one rate tried": ("optimizers", optimizers(rates=(0.1,)), "1 for adam, 1 for rmsprop, 1 for"),
    "two rates drawn": ("optimizers", TWO_RATES, "for each optimizer: several for adam"),
}


RUNS = [
    *(("ex2-2025", *row) for row in RUNS2.values()),
    *(("ex3-2025", *row) for row in RUNS3.values()),
]


@pytest.mark.parametrize(("sheet", "recipe", "runs", "line"), RUNS, ids=RUNS2 | RUNS3)
def test_a_wrong_run_breaks_its_rule_alone(sheet, recipe, runs, line, tmp_path):
    (broken,) = failed(handin(sheet, tmp_path, of={recipe: evidence(*runs, recipe=recipe)}))
    assert line in broken


def test_short_trainings_make_a_draft(tmp_path):
    made = handin("ex2-2025", tmp_path, of={"lr_sweep": evidence(*SHORT)})
    assert compose(made)["draft"] == ["lr_sweep: 30 epochs asked for, found epochs 20"]


def test_an_exercise_that_is_left_out_needs_no_runs(tmp_path):
    made = handin("ex3-2025", tmp_path, exercise("3.4", hand_in=False, present=False))
    del made.evidence["optimizers"]
    assert failed(made) == []
    answers = compose(made)["answers"]
    assert [answer["exercise"].number for answer in answers] == ["3.1", "3.2", "3.3"]
