"""Task 3.1: one step of gradient descent in exact fractions, with every intermediate value.

The network has a hidden layer with ReLU and one output neuron. Its loss is the sheet's,
L = 1/(2n) * sum of (Y - f(X))^2 over n samples. Central differences check it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from eml.errors import CheckError

Value = Any  # a Fraction, or an array of Fractions
PARAMETERS = {"weights_1": "w1", "bias_1": "b1", "weights_2": "w2", "bias_2": "b2"}
STEP = Fraction(1, 10**40)  # of the central differences; with fractions no step is too small
PER_SAMPLE = ("z", "a", "f", "e", "dL/df", "dL/da", "dL/dz")  # their first index is the sample


@dataclass(frozen=True)
class Problem:
    """The numbers that a step starts from."""

    x: np.ndarray  # (n, inputs)
    y: np.ndarray  # (n,)
    weights_1: np.ndarray  # (inputs, hidden)
    bias_1: np.ndarray  # (hidden,)
    weights_2: np.ndarray  # (hidden,)
    bias_2: Fraction
    learning_rate: Fraction


def _array(numbers: str) -> np.ndarray:
    return np.array([Fraction(number) for number in numbers.split()])


SHEET = Problem(
    x=_array("1 -1 0 -2 2").reshape(1, 5),
    y=_array("-1.75"),
    weights_1=_array("1 -1 0.5  0.5 1 1  1 -1 0.5  0.5 -1 0  1 -3 1").reshape(5, 3),
    bias_1=_array("1 2 3"),
    weights_2=_array("1 0.5 -0.5"),
    bias_2=Fraction(0),
    learning_rate=Fraction("0.1"),
)


class Line(NamedTuple):
    """A line of the solution: the name of a quantity, its calculation, and its value."""

    section: str
    quantity: str
    working: str
    value: Fraction

    @property
    def text(self) -> str:
        """Calculation and value: "1·2 + 1/2 = 5/2 = 2.5"; "2" where nothing is to be worked out."""
        working = "" if self.working == str(self.value) else f"{self.working} = "
        return working + with_decimal(self.value)


def with_decimal(value: Fraction) -> str:
    """Return "5/2 = 2.5", "1/3 approx 0.333333", or "2"."""
    decimal = Fraction(f"{float(value):.6g}")
    equals = "=" if decimal == value else "approx"
    return str(value) if value.denominator == 1 else f"{value} {equals} {float(decimal):g}"


class Solution(NamedTuple):
    """One solved step."""

    lines: list[Line]
    loss: Fraction
    gradient: dict[str, Value]  # by the names of PARAMETERS, in their order
    after: dict[str, Value]  # the updated parameters, in the same way

    def numbers(self) -> dict[str, float]:
        """The values of all lines: "L", "z.1", "dL/dw1.2.3", "new b2", "z.1 after"."""
        return {re.sub(r"[\[,]", ".", q).replace("]", ""): float(v) for _, q, _, v in self.lines}


class Paper:
    """The lines of a calculation. `title` is the section of the next lines."""

    def __init__(self, problem: Problem):
        self.has_one_sample = len(problem.x) == 1
        self.lines: list[Line] = []
        self.title = ""

    def write(self, symbol: str, values: Value, working: Callable[..., str]) -> None:
        """Add a line for each value. working: from its index to its calculation."""
        for index, value in np.ndenumerate(values):
            counted = index[1:] if self.has_one_sample and symbol in PER_SAMPLE else index
            at = ",".join(str(i + 1) for i in counted)
            quantity = f"{symbol}[{at}]" if at else symbol
            self.lines.append(Line(self.title, quantity, working(*index), value))


def factor(value: Value) -> str:
    """Return the text of a number within a calculation."""
    return f"({value})" if value < 0 else f"{value}"


def products(*factors: Value, plus: Value = ()) -> str:
    """Return the text of a sum of products, and of a last term. factors: numbers, or (terms,)."""
    terms = zip(*map(np.atleast_1d, factors), strict=True)
    return " + ".join("·".join(map(factor, term)) for term in [*terms, *zip(np.atleast_1d(plus))])


def solve(problem: Problem) -> Solution:
    """Calculate forward pass, loss, gradients, update, and the loss after the update.

    Raises CheckError if a gradient is not its central difference.
    """
    paper, again = Paper(problem), Paper(problem)
    loss, gradient = backward(problem, paper)
    after = update(problem, gradient, paper)
    forward(replace(problem, **after), again)
    for section, quantity, working, value in again.lines:
        paper.lines.append(Line(f"After the step. {section}", f"{quantity} after", working, value))
    if difference := central_difference(problem, gradient):
        raise CheckError(f"the gradients differ from central differences by {difference}")
    return Solution(paper.lines, loss, gradient, after)


def forward(problem: Problem, paper: Paper) -> tuple[np.ndarray, np.ndarray, np.ndarray, Fraction]:
    """Return activations a and slopes of ReLU (n, hidden), errors e = Y - f (n,), and the loss."""
    x, y, w1, b1 = problem.x, problem.y, problem.weights_1, problem.bias_1
    w2, b2, n = problem.weights_2, problem.bias_2, len(problem.x)
    paper.title = "Hidden neurons: z[j] = x[1]·w1[1,j] + x[2]·w1[2,j] + ... + b1[j]"
    z = x @ w1 + b1  # (n, hidden)
    paper.write("z", z, lambda s, j: products(x[s], w1[:, j], plus=b1[j]))
    paper.title = "Activations: a[j] = ReLU(z[j])"
    slope = (z > 0) * Fraction(1)  # (n, hidden); at 0, where there is no derivative, as in PyTorch
    a = z * slope  # (n, hidden)
    paper.write("a", a, lambda s, j: f"max(0, {z[s, j]})")
    paper.title = "Output: f = a[1]·w2[1] + a[2]·w2[2] + ... + b2"
    f = a @ w2 + b2  # (n,)
    paper.write("f", f, lambda s: products(a[s], w2, plus=b2))
    paper.title = "Loss: e = Y - f, L = e^2 / 2n, summed over the n samples"
    e = y - f  # (n,)
    paper.write("e", e, lambda s: f"{factor(y[s])} - {factor(f[s])}")
    loss = e @ e / (2 * n)
    paper.write("L", loss, lambda: products(np.full(n, Fraction(1, 2 * n)), e, e))
    return a, slope, e, loss


def backward(problem: Problem, paper: Paper) -> tuple[Fraction, dict[str, Value]]:
    """Return the loss, and its gradient with respect to each parameter, by backpropagation."""
    x, w2, n = problem.x, problem.weights_2, len(problem.x)
    a, slope, e, loss = forward(problem, paper)
    paper.title = "Gradient of the output: dL/df = -e / n"
    df = -e / n  # (n,)
    paper.write("dL/df", df, lambda s: products(Fraction(-1, n), e[s]))
    paper.title = "Gradients of the second layer: dL/dw2[j] = dL/df·a[j], dL/db2 = dL/df"
    dw2, db2 = df @ a, df.sum()  # (hidden,), a number
    paper.write("dL/dw2", dw2, lambda j: products(df, a[:, j]))
    paper.write("dL/db2", db2, lambda: products(df))
    paper.title = "Gradients of the hidden neurons: dL/da[j] = dL/df·w2[j], times 1 where z[j] > 0"
    da = np.outer(df, w2)  # (n, hidden)
    paper.write("dL/da", da, lambda s, j: products(df[s], w2[j]))
    dz = da * slope  # (n, hidden)
    paper.write("dL/dz", dz, lambda s, j: products(da[s, j], slope[s, j]))
    paper.title = "Gradients of the first layer: dL/dw1[i,j] = dL/dz[j]·x[i], dL/db1[j] = dL/dz[j]"
    dw1, db1 = x.T @ dz, dz.sum(axis=0)  # (inputs, hidden), (hidden,)
    paper.write("dL/dw1", dw1, lambda i, j: products(dz[:, j], x[:, i]))
    paper.write("dL/db1", db1, lambda j: products(dz[:, j]))
    return loss, {"weights_1": dw1, "bias_1": db1, "weights_2": dw2, "bias_2": db2}


def update(problem: Problem, gradient: dict[str, Value], paper: Paper) -> dict[str, Value]:
    """Return the parameters after one step of gradient descent."""
    paper.title = "Updated parameters: new p = p - rate·dL/dp"
    rate = problem.learning_rate
    after = {name: getattr(problem, name) - rate * gradient[name] for name in PARAMETERS}
    for name, symbol in PARAMETERS.items():
        before, slopes = np.array(getattr(problem, name)), np.array(gradient[name])
        paper.write(
            f"new {symbol}",
            after[name],
            lambda *at, p=before, g=slopes: f"{factor(p[at])} - {factor(rate)}·{factor(g[at])}",
        )
    return after


def central_difference(problem: Problem, gradient: dict[str, Value]) -> Fraction:
    """Return the largest difference of the gradient from (L(p + h) - L(p - h)) / 2h.

    The loss is quadratic in each parameter, so a correct gradient has no difference, unless h
    crosses ReLU's kink.
    """

    def loss(name: str, index: tuple[int, ...], step: Fraction) -> Fraction:
        moved: Value = np.array(getattr(problem, name))
        moved[index] += step
        return forward(replace(problem, **{name: moved[()]}), Paper(problem))[-1]

    worst: Fraction = max(
        abs((loss(name, index, STEP) - loss(name, index, -STEP)) / (2 * STEP) - slope)
        for name in PARAMETERS
        for index, slope in np.ndenumerate(gradient[name])
    )
    return worst
