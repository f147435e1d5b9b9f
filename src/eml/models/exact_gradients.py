"""Task 3.1: one step of gradient descent in exact fractions, with every intermediate value.

The network has a hidden layer with ReLU and one output neuron. Its loss is the sheet's,
L = 1/(2n) * sum of (Y - f(X))^2 over n samples.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from eml.errors import UserError

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]
PARAMETERS = {"weights_1": "w1", "bias_1": "b1", "weights_2": "w2", "bias_2": "b2"}


class ExerciseError(UserError):
    """A file does not describe an exercise; the message says what is wrong."""


@dataclass(frozen=True)
class Exercise:
    """The numbers of an exercise. Raises ExerciseError if their shapes do not fit each other."""

    x: Matrix  # (n, inputs)
    y: Row  # (n,)
    weights_1: Matrix  # (inputs, hidden)
    bias_1: Row  # (hidden,)
    weights_2: Row  # (hidden,)
    bias_2: Fraction
    learning_rate: Fraction

    def __post_init__(self):
        inputs, hidden = len(self.weights_1), len(self.bias_1)
        lengths = [
            *((f"row {i} of x", row, inputs, "rows in weights_1") for i, row in _counted(self.x)),
            ("y", self.y, len(self.x), "rows in x"),
            *(
                (f"row {i} of weights_1", row, hidden, "numbers in bias_1")
                for i, row in _counted(self.weights_1)
            ),
            ("weights_2", self.weights_2, hidden, "numbers in bias_1"),
        ]
        for name, row, expected, of in lengths:
            if len(row) != expected:
                raise ExerciseError(f"{name} has {len(row)} numbers: give {expected}, as {of}")
        if self.learning_rate <= 0:
            raise ExerciseError(f"learning_rate is {self.learning_rate}: give a number above 0")


def _counted(items: Iterable) -> Iterable[tuple[int, Any]]:
    return enumerate(items, start=1)  # as on paper


class Worked:
    """A number with the calculation that gave it, as a person would write it."""

    def __init__(self, value: Fraction | int, working: str = ""):
        self.value = Fraction(value)
        self.working = working or (f"({value})" if value < 0 else f"{value}")

    def __add__(self, other: "Worked") -> "Worked":
        return Worked(self.value + other.value, f"{self.working} + {other.working}")

    def __sub__(self, other: "Worked") -> "Worked":
        return Worked(self.value - other.value, f"{self.working} - {other.working}")

    def __mul__(self, other: "Worked") -> "Worked":
        return Worked(self.value * other.value, f"{self.working}·{other.working}")


def relu(z: Worked) -> Worked:
    return Worked(max(z.value, Fraction(0)), f"max(0, {z.value})")


def step(z: Worked) -> Worked:
    """The derivative of ReLU; at 0, where there is none, 0 as in PyTorch."""
    return Worked(int(z.value > 0))


Vector = list[Worked]


class Line(NamedTuple):
    """A line of the solution: the name of a quantity, its calculation, and its value."""

    section: str
    quantity: str
    working: str
    value: Fraction


class Paper:
    """Collects the lines of the solution."""

    def __init__(self):
        self.lines: list[Line] = []
        self.after_the_step = False

    def section(self, title: str) -> None:
        self.title = f"After the step. {title}" if self.after_the_step else title

    def write(self, quantity: str, result: Worked) -> Worked:
        """Add a line, and return the result as a plain number for further calculations."""
        if self.after_the_step:
            quantity += " after"
        self.lines.append(Line(self.title, quantity, result.working, result.value))
        return Worked(result.value)


class Solution(NamedTuple):
    """One solved step."""

    lines: list[Line]
    loss: Fraction
    gradient: dict[str, Matrix | Row | Fraction]  # by the names of PARAMETERS
    after: Exercise  # with the updated parameters


def solve(exercise: Exercise) -> Solution:
    """Forward pass, loss, gradients, update, and the loss after the update."""
    paper = Paper()
    hidden, activations, errors, loss = forward(exercise, paper)
    gradient = backward(exercise, hidden, activations, errors, paper)
    after = update(exercise, gradient, paper)
    paper.after_the_step = True
    forward(after, paper)
    return Solution(paper.lines, loss.value, gradient, after)


def forward(exercise: Exercise, paper: Paper) -> tuple[list[Vector], list[Vector], Vector, Worked]:
    """Sums z (n, hidden), activations a (n, hidden), errors Y - f (n,), and the loss L."""
    weights_1 = [_plain(row) for row in exercise.weights_1]
    bias_1, weights_2 = _plain(exercise.bias_1), _plain(exercise.weights_2)
    samples = [_plain(row) for row in exercise.x]
    name = _namer(exercise)

    paper.section("Hidden neurons: z[j] = x[1]·w1[1,j] + x[2]·w1[2,j] + ... + b1[j]")
    hidden = [
        [
            paper.write(name("z", s, j), _dot(x, [row[j] for row in weights_1]) + bias)
            for j, bias in enumerate(bias_1)
        ]
        for s, x in enumerate(samples)
    ]
    paper.section("Activations: a[j] = ReLU(z[j])")
    activations = [
        [paper.write(name("a", s, j), relu(z)) for j, z in enumerate(row)]
        for s, row in enumerate(hidden)
    ]
    paper.section("Output: f = a[1]·w2[1] + a[2]·w2[2] + ... + b2")
    bias_2 = Worked(exercise.bias_2)
    outputs = [
        paper.write(name("f", s), _dot(a, weights_2) + bias_2) for s, a in enumerate(activations)
    ]
    paper.section("Loss: e = Y - f, L = e^2 / 2n, summed over the n samples")
    targets = _plain(exercise.y)
    errors = [
        paper.write(name("e", s), y - f)
        for s, (y, f) in enumerate(zip(targets, outputs, strict=True))
    ]
    factor = Worked(Fraction(1, 2 * len(errors)))
    loss = paper.write("L", reduce(add, (factor * e * e for e in errors)))
    return hidden, activations, errors, loss


def backward(
    exercise: Exercise,
    hidden: list[Vector],
    activations: list[Vector],
    errors: Vector,
    paper: Paper,
) -> dict[str, Matrix | Row | Fraction]:
    """The gradient of the loss with respect to every parameter, by backpropagation."""
    name = _namer(exercise)
    samples, neurons = range(len(exercise.x)), range(len(exercise.bias_1))
    x, weights_2 = [_plain(row) for row in exercise.x], _plain(exercise.weights_2)

    paper.section("Gradient of the output: dL/df = -e / n")
    factor = Worked(Fraction(-1, len(errors)))
    d_f = [paper.write(name("dL/df", s), factor * errors[s]) for s in samples]

    paper.section("Gradients of the second layer: dL/dw2[j] = dL/df·a[j], dL/db2 = dL/df")
    d_weights_2 = [
        paper.write(f"dL/dw2[{j + 1}]", _dot(d_f, [activations[s][j] for s in samples]))
        for j in neurons
    ]
    d_bias_2 = paper.write("dL/db2", reduce(add, d_f))

    paper.section("Gradients of the hidden neurons: dL/da[j] = dL/df·w2[j], times 1 where z[j] > 0")
    d_a = [
        [paper.write(name("dL/da", s, j), d_f[s] * weights_2[j]) for j in neurons] for s in samples
    ]
    d_z = [
        [paper.write(name("dL/dz", s, j), d_a[s][j] * step(hidden[s][j])) for j in neurons]
        for s in samples
    ]

    paper.section("Gradients of the first layer: dL/dw1[i,j] = dL/dz[j]·x[i], dL/db1[j] = dL/dz[j]")
    d_weights_1 = [
        [
            paper.write(
                f"dL/dw1[{i + 1},{j + 1}]",
                _dot([d_z[s][j] for s in samples], [x[s][i] for s in samples]),
            )
            for j in neurons
        ]
        for i in range(len(exercise.weights_1))
    ]
    d_bias_1 = [
        paper.write(f"dL/db1[{j + 1}]", reduce(add, [d_z[s][j] for s in samples])) for j in neurons
    ]
    return {
        "weights_1": tuple(map(_values, d_weights_1)),
        "bias_1": _values(d_bias_1),
        "weights_2": _values(d_weights_2),
        "bias_2": d_bias_2.value,
    }


def update(
    exercise: Exercise, gradient: dict[str, Matrix | Row | Fraction], paper: Paper
) -> Exercise:
    """The exercise after one step of gradient descent."""
    paper.section("Updated parameters: new p = p - rate·dL/dp")
    rate = Worked(exercise.learning_rate)

    def moved(name: str, value, slope):
        if isinstance(value, tuple):
            pairs = _counted(zip(value, slope, strict=True))
            return tuple(moved(f"{name},{i}", v, g) for i, (v, g) in pairs)
        letter, *indices = name.split(",")
        quantity = f"new {letter}[{','.join(indices)}]" if indices else f"new {letter}"
        return paper.write(quantity, Worked(value) - rate * Worked(slope)).value

    return replace(
        exercise,
        **{
            name: moved(letter, getattr(exercise, name), gradient[name])
            for name, letter in PARAMETERS.items()
        },
    )


def _plain(numbers: Iterable[Fraction]) -> Vector:
    return [Worked(number) for number in numbers]


def _values(numbers: Vector) -> Row:
    return tuple(number.value for number in numbers)


def _dot(left: Vector, right: Vector) -> Worked:
    return reduce(add, (a * b for a, b in zip(left, right, strict=True)))


def _namer(exercise: Exercise):
    """Names such as "z[2]" for the second neuron, or "z[1,2]" if there are several samples."""

    def name(letter: str, sample: int, *neuron: int) -> str:
        indices = [sample, *neuron] if len(exercise.x) > 1 else neuron
        return f"{letter}[{','.join(str(i + 1) for i in indices)}]" if indices else letter

    return name
