"""Task 3.1 for the PDF: the lines of the exact step in sections. report.typ sets the mathematics.

The texts are made of numbers and the names of quantities alone, so that they hold no code.
"""

from collections.abc import Iterable
from fractions import Fraction
from itertools import groupby

from eml.exact.step import PARAMETERS, Problem, Solution, Value
from eml.handin.document import Line, Section

LETTERS = PARAMETERS | {"weights_1": "W1", "x": "X", "y": "Y"}
SHORT = 27  # characters of a calculation and its value that fit in a column
MOST_COLUMNS = 3


def calculation(problem: Problem, solution: Solution) -> list[Section]:
    """Return the sections: what is given, each step, and all gradients and parameters together."""
    numbers = ((name, getattr(problem, name)) for name in ("x", "y", *PARAMETERS))
    rate = Line("lambda", "", str(problem.learning_rate), _decimal(problem.learning_rate))
    sections = [Section("Given", "", 3, [*_matrices("", numbers), rate])]
    updated = ((name, getattr(solution.after, name)) for name in PARAMETERS)
    together = {
        "Gradients of the first layer": Section(
            "The gradients together", "", 4, _matrices("dL/d", solution.gradient.items())
        ),
        "Updated parameters": Section(
            "The updated parameters together", "", 4, _matrices("new ", updated)
        ),
    }
    for section, group in groupby(solution.lines, key=lambda line: line.section):
        title, _, formula = section.partition(":")
        lines = [
            Line(quantity, working, str(value) if working != str(value) else "", _decimal(value))
            for _, quantity, working, value in group
        ]
        longest = max(len(line.working + line.value + line.decimal) for line in lines)
        neurons = len(problem.bias_1)
        columns = neurons if longest <= SHORT and neurons <= MOST_COLUMNS else 1
        sections.append(Section(title, formula.strip(), columns, lines))
        if title in together:
            sections.append(together[title])
    return sections


def _matrices(prefix: str, values: Iterable[tuple[str, Value]]) -> list[Line]:
    """Return all numbers of each parameter, or of the samples, in one line."""
    return [Line(prefix + LETTERS[name], _nested(value), "", "") for name, value in values]


def _nested(value: Value) -> str:
    return str(value) if isinstance(value, Fraction) else f"[{', '.join(map(_nested, value))}]"


def _decimal(value: Fraction) -> str:
    """Return " = 2.5" for 5/2, " approx 0.333333" for 1/3, and "" for a whole number."""
    if value.denominator == 1:
        return ""
    decimal = Fraction(f"{float(value):.6g}")
    return f" {'=' if decimal == value else 'approx'} {float(decimal):g}"
