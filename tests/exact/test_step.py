"""Task 3.1 against numbers worked out on paper, and other problems against their checks."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eml.errors import CheckError
from eml.exact import step
from eml.exact.step import PARAMETERS, SHEET, Problem, central_difference, solve
from support.commands import call, mlflow_command, stored_runs
from support.handins import handin

# Worked out on paper.
BY_HAND = """
z[1] = 5/2, z[2] = -4, z[3] = 9/2, a[1] = 5/2, a[2] = 0, a[3] = 9/2, f = 1/4, e = -2, L = 2
dL/df = 2, dL/dw2[1] = 5, dL/dw2[2] = 0, dL/dw2[3] = 9, dL/db2 = 2
dL/da[1] = 2, dL/da[2] = 1, dL/da[3] = -1, dL/dz[1] = 2, dL/dz[2] = 0, dL/dz[3] = -1
dL/dw1[1,1] = 2, dL/dw1[2,3] = 1, dL/dw1[4,1] = -4, dL/dw1[5,3] = -2
dL/db1[1] = 2, dL/db1[2] = 0, dL/db1[3] = -1
new w1[1,1] = 4/5, new w1[1,2] = -1, new w1[5,3] = 6/5, new b1[3] = 31/10, new w2[3] = -7/5
new b2 = -1/5, z[1] after = 3/10, f after = -789/100, L after = 94249/5000
"""
TWO_SAMPLES = replace(
    SHEET,
    x=np.array([*SHEET.x, list(map(Fraction, ("0.5", 2, 1, "1/3", 0)))]),
    y=np.array([Fraction(1), Fraction(-3)]),
)


def test_the_sheets_problem_by_hand():
    values = {line.quantity: str(line.value) for line in solve(SHEET).lines}
    expected = dict(pair.split(" = ") for pair in BY_HAND.strip().replace("\n", ", ").split(", "))
    assert {name: values[name] for name in expected} == expected
    # Every parameter has a gradient and an updated value.
    assert sum(name.startswith("dL/d") and name[4] in "wb" for name in values) == 22
    assert sum(name.startswith("new ") for name in values) == 22


@pytest.mark.parametrize("problem", [SHEET, TWO_SAMPLES])
def test_each_calculation_has_the_value_of_its_line(problem):
    for _, quantity, working, value in solve(problem).lines:
        code = working.replace("·", "*").replace("/", "*one/")
        assert eval(code, {"one": Fraction(1)}) == value, quantity


def test_calculations_name_samples_only_where_there_are_several():
    one, two = (
        {line.quantity: line.working for line in solve(p).lines} for p in (SHEET, TWO_SAMPLES)
    )
    assert one["z[1]"] == "1·1 + (-1)·1/2 + 0·1 + (-2)·1/2 + 2·1 + 1"
    assert two["z[2,3]"] == "1/2·1/2 + 2·1 + 1·1/2 + 1/3·0 + 0·1 + 3"
    assert {"z[1]", "f", "e", "dL/dz[3]"} <= one.keys()
    assert solve(TWO_SAMPLES).lines[3].text.endswith(" + 1 = 11/3 approx 3.66667")
    assert {"z[1,1]", "f[2]", "e[2]", "dL/dz[2,3]", "dL/dw2[3]"} <= two.keys()


def by_loops(p: Problem) -> tuple[Fraction, dict[str, dict[tuple[int, ...], Fraction]]]:
    """The loss, and by parameter the gradient at each index: sums over samples, term by term."""
    loss = Fraction(0)
    slopes = {name: defaultdict(Fraction) for name in PARAMETERS}
    for x, y in zip(p.x, p.y, strict=True):
        z = [sum(x * p.weights_1[:, j]) + p.bias_1[j] for j in range(len(p.bias_1))]
        error = sum(max(0, z) * w for z, w in zip(z, p.weights_2, strict=True)) + p.bias_2 - y
        loss += error**2 / (2 * len(p.x))
        slopes["bias_2"][()] += error / len(p.x)
        for j in range(len(z)):
            slopes["weights_2"][(j,)] += error * max(0, z[j]) / len(p.x)
            slope = error * p.weights_2[j] / len(p.x) if z[j] > 0 else 0
            slopes["bias_1"][(j,)] += slope
            for i in range(len(x)):
                slopes["weights_1"][i, j] += slope * x[i]
    return loss, slopes


def some_problem(rng: np.random.Generator) -> Problem:
    """A problem of random shape, with fractions for numbers."""
    n, inputs, hidden = rng.integers(1, 5, 3)

    def numbers(*shape: int) -> np.ndarray:
        tops, bottoms = rng.integers(-20, 21, shape), rng.integers(1, 8, shape)
        return np.vectorize(Fraction, otypes=[object])(tops, bottoms)[()]

    weights = numbers(inputs, hidden), numbers(hidden), numbers(hidden), numbers()
    return Problem(numbers(n, inputs), numbers(n), *weights, Fraction(1, int(rng.integers(2, 9))))


def test_any_problem_is_solved_as_loops_over_its_samples_do():
    rng = np.random.default_rng(6)
    for problem in [SHEET, TWO_SAMPLES, *(some_problem(rng) for _ in range(30))]:
        solution, (loss, slopes) = solve(problem), by_loops(problem)
        assert solution.loss == loss
        for name in PARAMETERS:
            assert dict(np.ndenumerate(solution.gradient[name])) == slopes[name]
            rate = problem.learning_rate
            for index, before in np.ndenumerate(getattr(problem, name)):
                after = np.array(solution.after[name])[index]
                assert after == before - rate * slopes[name][index]


@pytest.mark.parametrize("problem", [SHEET, TWO_SAMPLES])
def test_each_number_of_a_gradient_that_is_off_by_one_in_a_thousand_is_found(problem):
    solution = solve(problem)
    assert central_difference(problem, solution.gradient) == 0
    for name, slopes in solution.gradient.items():
        for index, slope in np.ndenumerate(slopes):
            wrong = np.array(slopes)
            wrong[index] += (slope or Fraction(1)) / 1000
            off = solution.gradient | {name: wrong[()]}
            assert central_difference(problem, off) == abs(wrong[index] - slope)


@pytest.fixture
def wrong_gradient(monkeypatch):
    backward = step.backward

    def off(problem, paper):
        loss, gradient = backward(problem, paper)
        return loss, gradient | {"bias_1": gradient["bias_1"] * Fraction(1001, 1000)}

    monkeypatch.setattr(step, "backward", off)


def test_a_wrong_gradient_ends_the_command_as_failed(wrong_gradient, store, eml):
    result = eml("gradients")
    assert result.returncode == 1
    assert "the gradients differ from central differences by 1/500\n" in result.stderr
    (run,) = stored_runs(store)
    assert run.info.status == "FAILED"


def test_a_wrong_gradient_enters_no_hand_in(wrong_gradient, tmp_path):
    made = handin("ex3-2025", tmp_path)
    with pytest.raises(CheckError, match="differ from central differences by 1/500"):
        made.numbers  # noqa: B018, a property


@pytest.mark.slow
def test_mlflow_run_gradients(store, environment):
    result = call(mlflow_command("gradients"))
    assert result.returncode == 0, result.stderr
    assert "  z[1] = 1·1 + (-1)·1/2 + 0·1 + (-2)·1/2 + 2·1 + 1 = 5/2 = 2.5\n" in result.stdout
    assert "  dL/db2 = 2\n" in result.stdout
    assert "every gradient equals its central difference\n" in result.stdout
    (run,) = stored_runs(store)
    metrics = run.data.metrics
    assert metrics == {"loss": 2}
    folder = Path(store.download_artifacts(run.info.run_id, ""))
    table = pd.read_csv(folder / "gradients.csv").set_index("quantity")
    assert table.loc["dL/dw2[3]", "value"] == "9"
    assert table.loc["new b1[3]", "value"] == "31/10"
    assert table.loc["new b1[3]", "decimal"] == 3.1
    assert len(table) == len(solve(SHEET).lines)
