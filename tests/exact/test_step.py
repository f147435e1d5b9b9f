"""Task 3.1 against numbers worked out on paper, and other problems against their checks."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from eml.errors import CheckError, UserError
from eml.exact.check import autograd_difference, central_difference, check
from eml.exact.command import read_problem
from eml.exact.step import SHEET, solve
from support.commands import call, mlflow_command, stored_runs

# Worked out on paper, as fractions' text.
BY_HAND = {
    "z[1]": "5/2",
    "z[2]": "-4",
    "z[3]": "9/2",
    "a[1]": "5/2",
    "a[2]": "0",
    "a[3]": "9/2",
    "f": "1/4",
    "e": "-2",
    "L": "2",
    "dL/df": "2",
    "dL/dw2[1]": "5",
    "dL/dw2[2]": "0",
    "dL/dw2[3]": "9",
    "dL/db2": "2",
    "dL/da[1]": "2",
    "dL/da[2]": "1",
    "dL/da[3]": "-1",
    "dL/dz[1]": "2",
    "dL/dz[2]": "0",
    "dL/dz[3]": "-1",
    "dL/dw1[1,1]": "2",
    "dL/dw1[2,3]": "1",
    "dL/dw1[4,1]": "-4",
    "dL/dw1[5,3]": "-2",
    "dL/db1[1]": "2",
    "dL/db1[2]": "0",
    "dL/db1[3]": "-1",
    "new w1[1,1]": "4/5",
    "new w1[1,2]": "-1",
    "new w1[5,3]": "6/5",
    "new b1[3]": "31/10",
    "new w2[3]": "-7/5",
    "new b2": "-1/5",
    "z[1] after": "3/10",
    "f after": "-789/100",
    "L after": "94249/5000",
}


def test_the_sheets_problem_by_hand():
    values = {line.quantity: line.value for line in solve(SHEET).lines}
    assert {name: str(values[name]) for name in BY_HAND} == BY_HAND
    # Every parameter has a gradient and an updated value.
    assert sum(name.startswith("dL/d") and name[4] in "wb" for name in values) == 22
    assert sum(name.startswith("new ") for name in values) == 22


def test_the_working_is_shown():
    (line,) = [line for line in solve(SHEET).lines if line.quantity == "z[1]"]
    assert line.working == "1·1 + (-1)·1/2 + 0·1 + (-2)·1/2 + 2·1 + 1"


def test_autograd_agrees_to_the_last_digit():
    solution = solve(SHEET)
    assert autograd_difference(SHEET, solution) == 0
    assert central_difference(SHEET, solution) == 0


def test_several_samples():
    x = (SHEET.x[0], tuple(map(Fraction, ("0.5", 2, 1, "1/3", 0))))
    problem = replace(SHEET, x=x, y=(Fraction(1), Fraction(-3)))
    solution = solve(problem)
    differences = check(problem, solution, autograd=True)
    assert differences["central_difference"] == 0
    assert differences["autograd_difference"] < 1e-14
    assert "z[2,3]" in {line.quantity for line in solution.lines}


@pytest.mark.parametrize("name", ["weights_1", "bias_1", "weights_2", "bias_2"])
def test_a_wrong_gradient_is_noticed(name):
    solution = solve(SHEET)

    def negated(value):
        return tuple(map(negated, value)) if isinstance(value, tuple) else -value

    wrong = solution._replace(gradient=solution.gradient | {name: negated(solution.gradient[name])})
    with pytest.raises(CheckError):
        check(SHEET, wrong, autograd=True)
    assert central_difference(SHEET, wrong) > 1


@pytest.mark.parametrize(
    ("sum_of_neuron_1", "checks"),
    [
        ("0", set()),
        ("1e-12", {"central_difference"}),  # in floating point it may be on the other side
        ("1e-6", {"autograd_difference", "central_difference"}),
    ],
)
def test_a_neuron_on_the_kink_has_no_derivative_to_compare(sum_of_neuron_1, checks):
    bias = Fraction("-1.5") + Fraction(sum_of_neuron_1)
    problem = replace(SHEET, bias_1=(bias, *SHEET.bias_1[1:]))
    assert set(check(problem, solve(problem), autograd=True)) == checks


def test_the_derivative_of_relu_at_0_is_0():
    """As PyTorch has it; the sheet's neurons are all off the kink."""
    problem = replace(SHEET, bias_1=(Fraction("-1.5"), *SHEET.bias_1[1:]))
    values = {line.quantity: line.value for line in solve(problem).lines}
    assert (values["z[1]"], values["a[1]"], values["dL/dz[1]"]) == (0, 0, 0)
    assert values["dL/da[1]"] != 0


def test_numbers_from_a_file(tmp_path):
    file = tmp_path / "exercise.toml"
    file.write_text(
        """
        x = [1, 2]
        y = ["1/3"]
        weights_1 = [[0.1, -1], [1e-1, 1]]
        bias_1 = [0, 0]
        weights_2 = [1, 2.5]
        learning_rate = 0.01
        """
    )
    problem = read_problem(file)
    assert problem.x == ((1, 2),)
    assert problem.y == (Fraction(1, 3),)
    assert problem.weights_1 == ((Fraction(1, 10), -1), (Fraction(1, 10), 1))
    assert problem.bias_2 == SHEET.bias_2
    values = {line.quantity: line.value for line in solve(problem).lines}
    step = problem.bias_2 - values["new b2"]
    assert step == values["dL/db2"] / 100  # with the file's learning rate
    assert solve(problem).loss == (Fraction(1, 3) - Fraction(3, 10) - Fraction(5, 2)) ** 2 / 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [1, 2]", "row 1 of x has 2 numbers: give 5, as rows in weights_1"),
        ("y = [1, 2]", "y has 2 numbers: give 1, as rows in x"),
        ("bias_1 = [1]", "row 1 of weights_1 has 3 numbers: give 1, as numbers in bias_1"),
        ("weights_2 = [1]", "weights_2 has 1 numbers: give 3, as numbers in bias_1"),
        ("weights_1 = [1, 2]", "weights_1: 1 is not a list of numbers"),
        ("weights_1 = []", r"weights_1: \[\] is not a list of rows of numbers"),
        ("y = -1.75", "y: -1.75 is not a list of numbers"),
        ("bias_2 = [0]", r"bias_2: \[0\] is not a number"),
        ("bias_2 = 'zero'", "bias_2: zero is not a number"),
        ("bias_2 = '1/0'", "bias_2: 1/0 divides by zero"),
        ("bias_2 = true", "bias_2: True is not a number"),
        ("bias_2 = nan", "bias_2: nan is not a number"),
        ("bias_2 = 1e200", "bias_2: 10*(e[0-9]+)? is not a number with"),
        (
            "bias_2 = 1e999999999",
            "bias_2: 10*(e[0-9]+)? is not a number with",
        ),
        (
            "bias_2 = '1e999999999'",
            "bias_2: 10*(e[0-9]+)? is not a number with",
        ),
        (
            f"bias_2 = {10**40}",
            "bias_2: 10*(e[0-9]+)? is not a number with",
        ),
        ("learning_rate = 0", "learning_rate is 0: give a number above 0"),
        (f"x = {'[' * 3000}", "cannot be read: "),
        ("lr = 0.1", "no key lr, give x, y, weights_1, bias_1, weights_2, bias_2, learning_rate"),
        ("x = [1", "cannot be read: "),
    ],
)
def test_a_wrong_file_is_refused(text, message, tmp_path):
    file = tmp_path / "exercise.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"exercise.toml:? {message}"):
        read_problem(file)


@pytest.mark.slow
def test_mlflow_run_gradients(store, environment):
    result = call(mlflow_command("gradients", autograd="true"))
    assert result.returncode == 0, result.stderr
    assert "z[1] = 1·1 + (-1)·1/2 + 0·1 + (-2)·1/2 + 2·1 + 1 = 5/2 (2.5)" in result.stdout
    assert "autograd difference, largest: 0\n" in result.stdout
    (run,) = stored_runs(store)
    metrics = run.data.metrics
    assert metrics == {"loss": 2, "autograd_difference": 0, "central_difference": 0}
    folder = Path(store.download_artifacts(run.info.run_id, ""))
    table = pd.read_csv(folder / "gradients.csv").set_index("quantity")
    assert table.loc["dL/dw2[3]", "exact"] == "9"
    assert table.loc["new b1[3]", "exact"] == "31/10"
    assert len(table) == len(solve(SHEET).lines)
    assert "| dL/dw2[3] | 2·9/2" in (folder / "gradients.md").read_text(encoding="utf-8")


def test_a_file_that_is_not_there_is_named(store, eml, tmp_path):
    result = eml("gradients", "--file", "none.toml")
    assert result.returncode == 2
    assert "eml: file=none.toml: there is no /" in result.stderr
    assert result.stderr.endswith("none.toml, give an absolute path\n")
    assert len(result.stderr.splitlines()) == 1
    assert not stored_runs(store)
