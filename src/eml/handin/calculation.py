"""Task 3.1 for the PDF: the lines of the exact step in sections. report.typ sets the mathematics.

The texts are made of numbers and the names of quantities alone, so that they hold no code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from eml.exact.step import PARAMETERS, SHEET, Solution, Value

LETTERS = {"x": "X", "y": "Y"} | PARAMETERS | {"weights_1": "W1"}
SHORT = 27  # characters of a calculation and its value that fit in a column


@dataclass(frozen=True)
class Line:
    """A line with texts for the template."""

    quantity: str  # "dL/dw1[1,2]"
    working: str  # "1·2 + 1/2", or a matrix as "[[1, 2], [3, 4]]"
    value: str  # "5/2"; "" if the working is the value
    decimal: str  # " = 2.5"; "" for a whole number


@dataclass(frozen=True)
class Section:
    """A section with its lines in columns."""

    title: str
    formula: str  # in plain text; report.typ has it in mathematics
    columns: int
    lines: list[Line]


def calculation(solution: Solution) -> list[Section]:
    """Return the sections: what is given, each step, and all gradients and parameters together."""
    rate = Line("lambda", "", str(SHEET.learning_rate), _decimal(SHEET.learning_rate))
    sections = [Section("Given", "", 3, [*_matrices("", vars(SHEET), LETTERS), rate])]
    together = {
        "Gradients of the first layer": ("The gradients together", "dL/d", solution.gradient),
        "Updated parameters": ("The updated parameters together", "new ", vars(solution.after)),
    }
    for section, group in groupby(solution.lines, key=lambda line: line.section):
        title, _, formula = section.partition(":")
        lines = [
            Line(quantity, working, str(value) if working != str(value) else "", _decimal(value))
            for _, quantity, working, value in group
        ]
        longest = max(len(line.working + line.value + line.decimal) for line in lines)
        columns = len(SHEET.bias_1) if longest <= SHORT else 1
        sections.append(Section(title, formula.strip(), columns, lines))
        if title in together:
            title, prefix, values = together[title]
            sections.append(Section(title, "", 4, _matrices(prefix, values)))
    return sections


def _matrices(
    prefix: str, values: Mapping[str, Value], names: Iterable[str] = PARAMETERS
) -> list[Line]:
    """Return all numbers of each parameter, or of the samples, in one line."""
    return [Line(prefix + LETTERS[name], _nested(values[name]), "", "") for name in names]


def _nested(value: Value) -> str:
    return str(value) if isinstance(value, Fraction) else f"[{', '.join(map(_nested, value))}]"


def _decimal(value: Fraction) -> str:
    """Return " = 2.5" for 5/2, " approx 0.333333" for 1/3, and "" for a whole number."""
    if value.denominator == 1:
        return ""
    decimal = Fraction(f"{float(value):.6g}")
    return f" {'=' if decimal == value else 'approx'} {float(decimal):g}"
