"""Task 3.1 in mathematical type: each line of the exact step as typst's mathematics.

The texts are made of numbers and the names of quantities alone, so that they hold no other code.
"""

import re
from fractions import Fraction
from itertools import groupby
from typing import Any

from eml.exact.step import PARAMETERS, Line, Problem, Solution, Value

NAMES = {"w1": "w^((1))", "b1": "b^((1))", "w2": "w^((2))", "b2": "b^((2))"}
LETTERS = {name: NAMES[short] for name, short in PARAMETERS.items()} | {"weights_1": "W^((1))"}
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


def calculation(problem: Problem, solution: Solution) -> list[dict[str, Any]]:
    """The sections: title, formula where there is one, columns, and the lines.

    A formula and a line are mathematics of typst with the same in plain text.
    """
    rate = problem.learning_rate
    numbers = [_matrix("X", "x", problem.x), _matrix("Y", "y", problem.y)]
    numbers += [_matrix(LETTERS[name], name, getattr(problem, name)) for name in PARAMETERS]
    numbers += [_typed(f"lambda = {_number(rate)}", f"learning rate = {rate}")]
    sections = [{"title": "Given", "columns": 3, "lines": numbers}]
    for title, lines in groupby(solution.lines, key=lambda line: line.section):
        sections.append(_worked(title, list(lines), len(problem.bias_1)))
        if title.startswith("Gradients of the first layer"):
            together = [
                _matrix(f"(partial L)/(partial {LETTERS[name]})", f"gradient of {name}", value)
                for name, value in solution.gradient.items()
            ]
            sections.append({"title": "The gradients together", "columns": 4, "lines": together})
        if title.startswith("Updated parameters"):
            together = [
                _matrix(_primed(LETTERS[name]), f"updated {name}", getattr(solution.after, name))
                for name in PARAMETERS
            ]
            title = "The updated parameters together"
            sections.append({"title": title, "columns": 4, "lines": together})
    return sections


def _typed(mathematics: str, spoken: str) -> dict[str, str]:
    return {"math": mathematics, "alt": spoken}


def _matrix(letter: str, name: str, value: Value) -> dict[str, str]:
    """All numbers of a parameter or of the samples."""
    words = _words(value)
    rows = words.replace("], [", "; ").strip("[]")
    mathematics = words if isinstance(value, Fraction) else f'mat(delim: "[", {rows})'
    return _typed(f"{letter} = {mathematics}", f"{name.replace('_', ' ')} = {words}")


def _words(value: Value) -> str:
    return str(value) if isinstance(value, Fraction) else f"[{', '.join(map(_words, value))}]"


def _worked(section: str, lines: list[Line], neurons: int) -> dict[str, Any]:
    """A section of the solution, a line for each quantity; short lines a column for each neuron."""
    title, _, formula = section.partition(":")
    typed = []
    for _, quantity, working, value in lines:
        mathematics = f"{_symbol(quantity)} = {working.replace('·', ' dot ')}"
        if working != str(value):
            mathematics += f" = {_number(value)}"
        typed.append(_typed(mathematics, f"{quantity} = {working} = {value}"))
    is_short = all(len(line.working + _number(line.value)) <= SHORT for line in lines)
    columns = neurons if is_short and neurons <= MOST_COLUMNS else 1
    content = {"title": title, "columns": columns, "lines": typed}
    if title in FORMULAS:
        content["formula"] = _typed(FORMULAS[title], formula.strip())
    return content


def _symbol(quantity: str) -> str:
    """ "dL/dw1[1,2]" as a derivative, "new w1[1,2]" and "z[1] after" with a prime."""
    match = QUANTITY.fullmatch(quantity)
    assert match, quantity
    kind, name, indices, after = match.groups()
    symbol = NAMES.get(name, name)
    if kind == "new " or after:
        symbol = _primed(symbol)
    if indices:
        symbol += f"_({indices})"
    return f"(partial L)/(partial {symbol})" if kind == "dL/d" else symbol


def _primed(symbol: str) -> str:
    """The symbol of a quantity after the step: w^((1)) becomes w^((1)')."""
    return f"{symbol[:-1]}')" if symbol.endswith(")") else f"{symbol}'"


def _number(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value)
    decimal = Fraction(f"{float(value):.6g}")
    return f"{value} {'=' if decimal == value else 'approx'} {float(decimal):g}"
