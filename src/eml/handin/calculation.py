"""Task 3.1 in mathematical type: each line of the exact step as typst's mathematics.

The texts are made of numbers and the names of quantities alone, so that they hold no other code.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import groupby
from typing import Any

from eml.models.exact_gradients import PARAMETERS, Exercise, Line, Matrix, Row, Solution

Value = Matrix | Row | Fraction
NAMES = {"w1": "w^((1))", "b1": "b^((1))", "w2": "w^((2))", "b2": "b^((2))"}
LETTERS = {"weights_1": "W^((1))", "bias_1": "b^((1))", "weights_2": "w^((2))", "bias_2": "b^((2))"}
SHORT = 27  # characters of a calculation and its value that fit in a column
MOST_COLUMNS = 3
# By the first words of a section's title: the section's formula.
FORMULAS = {
    "Hidden neurons": "z_j = sum_i x_i w^((1))_(i,j) + b^((1))_j",
    "Activations": 'a_j = "ReLU"(z_j) = max(0, z_j)',
    "Output": "f = sum_j a_j w^((2))_j + b^((2))",
    "Loss": "e = Y - f, quad L = 1/(2n) sum e^2",
    "Gradient of the output": "(partial L)/(partial f) = -e/n",
    "Gradients of the second layer": "(partial L)/(partial w^((2))_j) = (partial L)/(partial f) "
    "a_j, quad (partial L)/(partial b^((2))) = (partial L)/(partial f)",
    "Gradients of the hidden neurons": "(partial L)/(partial a_j) = (partial L)/(partial f) "
    "w^((2))_j, quad (partial L)/(partial z_j) = (partial L)/(partial a_j) dot "
    'cases(1 "if" z_j > 0, 0 "else")',
    "Gradients of the first layer": "(partial L)/(partial w^((1))_(i,j)) = "
    "(partial L)/(partial z_j) x_i, quad (partial L)/(partial b^((1))_j) = "
    "(partial L)/(partial z_j)",
    "Updated parameters": "p' = p - lambda (partial L)/(partial p)",
}
QUANTITY = re.compile(r"(new |dL/d)?([a-zA-Z]\d?)(?:\[([\d,]+)\])?( after)?")
WORKING = re.compile(r"[\d\s()/·+\-,]|max")  # what a calculation consists of


def calculation(exercise: Exercise, solution: Solution) -> list[dict[str, Any]]:
    """The sections: title, formula where there is one, columns, and the lines.

    A formula and a line are mathematics of typst with the same in plain text.
    """
    given = {"x": exercise.x, "y": exercise.y} | {n: getattr(exercise, n) for n in PARAMETERS}
    letters = {"x": "X", "y": "Y"} | LETTERS
    rate = exercise.learning_rate
    sections = [
        _section(
            "Given",
            [_named(letters[name], name, value) for name, value in given.items()]
            + [_typed(f"lambda = {_number(rate)}", f"learning rate = {rate}")],
            columns=3,
        )
    ]
    for title, lines in groupby(solution.lines, key=lambda line: line.section):
        sections.append(_worked(title, list(lines), len(exercise.bias_1)))
        if title.startswith("Gradients of the first layer"):
            sections.append(_together("The gradients together", solution.gradient, "gradient of"))
        if title.startswith("Updated parameters"):
            updated = {name: getattr(solution.after, name) for name in PARAMETERS}
            sections.append(_together("The updated parameters together", updated, "updated"))
    return sections


def _together(title: str, values: Mapping[str, Value], word: str) -> dict[str, Any]:
    """All gradients or all updated parameters, as matrices in one row."""

    def letter(name: str) -> str:
        if word == "updated":
            return _primed(LETTERS[name])
        return f"(partial L)/(partial {LETTERS[name]})"

    lines = [_named(letter(name), f"{word} {name}", value) for name, value in values.items()]
    return _section(title, lines, columns=len(lines))


def _section(title: str, lines: list[dict[str, str]], columns: int) -> dict[str, Any]:
    return {"title": title, "columns": columns, "lines": lines}


def _typed(mathematics: str, spoken: str) -> dict[str, str]:
    return {"math": mathematics, "alt": spoken}


def _named(letter: str, name: str, value: Value) -> dict[str, str]:
    return _typed(f"{letter} = {_value(value)}", f"{name.replace('_', ' ')} = {_in_words(value)}")


def _worked(section: str, lines: list[Line], neurons: int) -> dict[str, Any]:
    """A section of the solution, a line for each quantity; short lines a column for each neuron."""
    title, _, formula = section.partition(":")
    typed = [
        _typed(
            f"{_quantity(line.quantity)} = {_working(line.working)}"
            + (f" = {_number(line.value)}" if line.working != str(line.value) else ""),
            f"{line.quantity} = {line.working} = {line.value}",
        )
        for line in lines
    ]
    is_short = all(len(line.working + _number(line.value)) <= SHORT for line in lines)
    found = _section(title, typed, neurons if is_short and neurons <= MOST_COLUMNS else 1)
    if title in FORMULAS:
        found["formula"] = _typed(FORMULAS[title], formula.strip())
    return found


def _quantity(text: str) -> str:
    """ "dL/dw1[1,2]" as a derivative, "new w1[1,2]" and "z[1] after" with a prime."""
    found = QUANTITY.fullmatch(text)
    assert found, text
    kind, name, indices, after = found.groups()
    symbol = NAMES.get(name, name)
    if kind == "new " or after:
        symbol = _primed(symbol)
    if indices:
        symbol += f"_({indices})"
    return f"(partial L)/(partial {symbol})" if kind == "dL/d" else symbol


def _primed(symbol: str) -> str:
    """The symbol of a quantity after the step: w^((1)) becomes w^((1)')."""
    return f"{symbol[:-1]}')" if symbol.endswith(")") else f"{symbol}'"


def _working(text: str) -> str:
    assert not WORKING.sub("", text), text
    return text.replace("·", " dot ")


def _number(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value)
    decimal = Fraction(f"{float(value):.6g}")
    return f"{value} {'=' if decimal == value else 'approx'} {float(decimal):g}"


def _value(value: Value) -> str:
    if not isinstance(value, tuple):
        return str(value)
    rows = value if isinstance(value[0], tuple) else (value,)
    return 'mat(delim: "[", ' + "; ".join(", ".join(map(str, row)) for row in rows) + ")"


def _in_words(value: Value) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return "[" + ", ".join(map(_in_words, value)) + "]"
