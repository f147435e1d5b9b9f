"""Task 3.1: one step of gradient descent in exact fractions, with every intermediate value.

The network has a hidden layer with ReLU and one output neuron. Its loss is the sheet's,
L = 1/(2n) * sum of (Y - f(X))^2 over n samples.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any, NamedTuple

from eml.errors import UserError

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]
Value = Matrix | Row | Fraction
Key = tuple[str | int, ...]  # a number's name and its indices from 1: ("w1", 1, 2)
PARAMETERS = {"weights_1": "w1", "bias_1": "b1", "weights_2": "w2", "bias_2": "b2"}


@dataclass(frozen=True)
class Problem:
    """The numbers that a step starts from. Raises UserError if their shapes do not fit."""

    x: Matrix  # (n, inputs)
    y: Row  # (n,)
    weights_1: Matrix  # (inputs, hidden)
    bias_1: Row  # (hidden,)
    weights_2: Row  # (hidden,)
    bias_2: Fraction
    learning_rate: Fraction

    def __post_init__(self) -> None:
        inputs, hidden = len(self.weights_1), len(self.bias_1)
        lengths = [
            *(
                (f"row {i} of x", row, inputs, "rows in weights_1")
                for i, row in enumerate(self.x, 1)
            ),
            ("y", self.y, len(self.x), "rows in x"),
            *(
                (f"row {i} of weights_1", row, hidden, "numbers in bias_1")
                for i, row in enumerate(self.weights_1, 1)
            ),
            ("weights_2", self.weights_2, hidden, "numbers in bias_1"),
        ]
        for name, row, expected, counted in lengths:
            if len(row) != expected:
                raise UserError(f"{name} has {len(row)} numbers: give {expected}, as {counted}")
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate is {self.learning_rate}: give a number above 0")

    def shaped(self, prefix: str, values: dict[Key, Fraction]) -> dict[str, Any]:
        """By the names of PARAMETERS: the values whose names are `prefix` and a parameter's."""

        def nested(like: Any, key: Key) -> Any:
            if not isinstance(like, tuple):
                return values[key]
            return tuple(nested(item, (*key, i)) for i, item in enumerate(like, 1))

        return {n: nested(getattr(self, n), (prefix + short,)) for n, short in PARAMETERS.items()}


def flat(key: Key, value: Any) -> dict[Key, Fraction]:
    """The numbers in nested tuples by their keys, which begin with `key`."""
    if not isinstance(value, tuple):
        return {key: value}
    items = (flat((*key, i), item) for i, item in enumerate(value, 1))
    return {key: number for numbers in items for key, number in numbers.items()}


def _row(numbers: str) -> Row:
    return tuple(map(Fraction, numbers.split()))


SHEET = Problem(
    x=(_row("1 -1 0 -2 2"),),
    y=_row("-1.75"),
    weights_1=tuple(map(_row, ("1 -1 0.5", "0.5 1 1", "1 -1 0.5", "0.5 -1 0", "1 -3 1"))),
    bias_1=_row("1 2 3"),
    weights_2=_row("1 0.5 -0.5"),
    bias_2=Fraction(0),
    learning_rate=Fraction("0.1"),
)


class Line(NamedTuple):
    """A line of the solution: the name of a quantity, its calculation, and its value."""

    section: str
    quantity: str
    working: str
    value: Fraction


class Paper(dict[Key, Fraction]):
    """The numbers known so far, and the lines that calculate them."""

    def __init__(self, problem: Problem, changed: dict[Key, Fraction] | None = None):
        """changed: numbers in place of the problem's."""
        # One sample has the number 0, which no quantity names.
        self.samples = range(1, len(problem.y) + 1) if len(problem.y) > 1 else range(1)
        self.inputs = range(1, len(problem.weights_1) + 1)
        self.neurons = range(1, len(problem.bias_1) + 1)
        values: dict[Key, Value]
        values = {(short,): getattr(problem, name) for name, short in PARAMETERS.items()}
        for s, x, y in zip(self.samples, problem.x, problem.y, strict=True):
            values |= {("x", s): x, ("y", s): y}
        super().__init__()
        for key, value in values.items():
            self |= flat(key, value)
        self |= changed or {}
        self.lines: list[Line] = []
        self.title = self.prefix = self.suffix = ""  # of sections; of their titles; of quantities

    def write(self, key: Key, working: str, value: Fraction) -> None:
        """Add a line."""
        self[key] = value
        name, *indices = key
        at = ",".join(str(index) for index in indices if index)
        quantity = f"{name}[{at}]{self.suffix}" if at else f"{name}{self.suffix}"
        self.lines.append(Line(self.prefix + self.title, quantity, working, value))

    def sum(self, key: Key, terms: Iterable[tuple[Key | Fraction, ...]]) -> None:
        """Add a line with a sum of products; a term holds its factors or their keys."""
        numbers = [[self[f] if isinstance(f, tuple) else f for f in term] for term in terms]
        working = " + ".join("·".join(map(factor, term)) for term in numbers)
        products = (prod(term, start=Fraction(1)) for term in numbers)
        self.write(key, working, sum(products, Fraction()))


def factor(value: Fraction) -> str:
    """The text of a number within a calculation."""
    return f"({value})" if value < 0 else f"{value}"


class Solution(NamedTuple):
    """One solved step."""

    lines: list[Line]
    loss: Fraction
    gradient: dict[str, Value]  # by the names of PARAMETERS
    after: Problem  # with the updated parameters

    def numbers(self) -> dict[str, float]:
        """Every value by a name that MLflow accepts: "dL/dw1[1,2]" becomes "dL/dw1.1.2"."""
        return {re.sub(r"[\[,]", ".", q).replace("]", ""): float(v) for _, q, _, v in self.lines}


def solve(problem: Problem) -> Solution:
    """Forward pass, loss, gradients, update, and the loss after the update."""
    paper = Paper(problem)
    loss = forward(paper)
    backward(paper)
    update(problem, paper)
    after = replace(problem, **problem.shaped("new ", paper))
    again = Paper(after)
    again.prefix, again.suffix = "After the step. ", " after"
    forward(again)
    return Solution(paper.lines + again.lines, loss, problem.shaped("dL/d", paper), after)


def forward(paper: Paper) -> Fraction:
    """Write the sums z, activations a, outputs f, errors e = Y - f, and the loss; return this."""
    samples, inputs, neurons = paper.samples, paper.inputs, paper.neurons
    paper.title = "Hidden neurons: z[j] = x[1]·w1[1,j] + x[2]·w1[2,j] + ... + b1[j]"
    for s, j in product(samples, neurons):
        products = [(("x", s, i), ("w1", i, j)) for i in inputs]
        paper.sum(("z", s, j), [*products, (("b1", j),)])
    paper.title = "Activations: a[j] = ReLU(z[j])"
    for s, j in product(samples, neurons):
        z = paper["z", s, j]
        paper.write(("a", s, j), f"max(0, {z})", max(z, Fraction()))
    paper.title = "Output: f = a[1]·w2[1] + a[2]·w2[2] + ... + b2"
    for s in samples:
        paper.sum(("f", s), [*((("a", s, j), ("w2", j)) for j in neurons), (("b2",),)])
    paper.title = "Loss: e = Y - f, L = e^2 / 2n, summed over the n samples"
    for s in samples:
        y, f = paper["y", s], paper["f", s]
        paper.write(("e", s), f"{factor(y)} - {factor(f)}", y - f)
    half = Fraction(1, 2 * len(samples))
    paper.sum(("L",), [(half, ("e", s), ("e", s)) for s in samples])
    return paper["L",]


def backward(paper: Paper) -> None:
    """Write the gradient of the loss with respect to every parameter, by backpropagation."""
    samples, inputs, neurons = paper.samples, paper.inputs, paper.neurons
    paper.title = "Gradient of the output: dL/df = -e / n"
    for s in samples:
        paper.sum(("dL/df", s), [(Fraction(-1, len(samples)), ("e", s))])
    paper.title = "Gradients of the second layer: dL/dw2[j] = dL/df·a[j], dL/db2 = dL/df"
    for j in neurons:
        paper.sum(("dL/dw2", j), [(("dL/df", s), ("a", s, j)) for s in samples])
    paper.sum(("dL/db2",), [(("dL/df", s),) for s in samples])
    paper.title = "Gradients of the hidden neurons: dL/da[j] = dL/df·w2[j], times 1 where z[j] > 0"
    for s, j in product(samples, neurons):
        paper.sum(("dL/da", s, j), [(("dL/df", s), ("w2", j))])
    for s, j in product(samples, neurons):  # at 0 without derivative: 0, as in PyTorch
        paper.sum(("dL/dz", s, j), [(("dL/da", s, j), Fraction(paper["z", s, j] > 0))])
    paper.title = "Gradients of the first layer: dL/dw1[i,j] = dL/dz[j]·x[i], dL/db1[j] = dL/dz[j]"
    for i, j in product(inputs, neurons):
        paper.sum(("dL/dw1", i, j), [(("dL/dz", s, j), ("x", s, i)) for s in samples])
    for j in neurons:
        paper.sum(("dL/db1", j), [(("dL/dz", s, j),) for s in samples])


def update(problem: Problem, paper: Paper) -> None:
    """Write the parameters after one step of gradient descent."""
    paper.title = "Updated parameters: new p = p - rate·dL/dp"
    rate = problem.learning_rate
    for name, short in PARAMETERS.items():
        for (_, *at), value in flat((short,), getattr(problem, name)).items():
            slope = paper[f"dL/d{short}", *at]
            working = f"{factor(value)} - {factor(rate)}·{factor(slope)}"
            paper.write((f"new {short}", *at), working, value - rate * slope)
