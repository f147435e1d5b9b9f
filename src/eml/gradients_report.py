"""The worked step of gradients.py as text, files and metrics, and its two independent checks."""

import re
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import pandas as pd

from eml.compare import markdown
from eml.errors import CheckError
from eml.gradients import PARAMETERS, Exercise, Paper, Solution, forward

STEP = Fraction(1, 10**40)  # of the central differences; in fractions no step is too small
NEAR_THE_KINK = 1e-9  # a sum so close to 0 can have the other sign in floating point


def text(solution: Solution) -> str:
    """The step as a person would write it down."""
    parts = []
    for section, lines in groupby(solution.lines, key=lambda line: line.section):
        parts.append(f"\n{section}")
        for line in lines:
            parts.append(f"  {line.quantity} = {line.working} = {_shown(line.value)}")
    return "\n".join(parts).lstrip()


def metrics(solution: Solution) -> dict[str, float]:
    """Every value by a name that MLflow takes: "dL/dw1[1,2]" becomes "dL/dw1.1.2"."""
    return {
        re.sub(r"[\[,]", ".", line.quantity).replace("]", ""): float(line.value)
        for line in solution.lines
    }


def write_files(solution: Solution, folder: Path) -> None:
    """Write gradients.md and gradients.csv into `folder`."""
    table = pd.DataFrame(
        {
            "quantity": line.quantity,
            "worked out": line.working,
            "exact": str(line.value),
            "decimal": float(line.value),
            "section": line.section,
        }
        for line in solution.lines
    )
    table.to_csv(folder / "gradients.csv", index=False)
    parts = ["# One step of gradient descent\n"]
    for section, rows in table.groupby("section", sort=False):
        parts.append(f"## {section}\n\n{markdown(rows.drop(columns='section'))}")
    (folder / "gradients.md").write_text("\n".join(parts), encoding="utf-8")


def _shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{value} ({float(value):.6g})"


def check(exercise: Exercise, solution: Solution, autograd: bool) -> dict[str, float]:
    """The largest differences from central differences and `autograd`, by metric name.

    Without those that say nothing, because a hidden neuron is at ReLU's kink, where there is no
    derivative. Raises CheckError if one is larger than rounding can make it.
    """
    sums = [line.value for line in solution.lines if re.match(r"z\[[\d,]+\]$", line.quantity)]
    differences = {}
    if autograd and min(map(abs, sums)) > NEAR_THE_KINK:
        differences["autograd_difference"] = autograd_difference(exercise, solution)
    if 0 not in sums:
        differences["central_difference"] = float(central_difference(exercise, solution))
    largest = max(abs(value) for value in metrics(solution).values())
    if max(differences.values(), default=0) > 1e-12 * max(largest, 1):
        raise CheckError(f"the gradients are wrong: {differences}")
    return differences


def autograd_difference(exercise: Exercise, solution: Solution) -> float:
    """The largest difference from PyTorch's loss and gradients, in double precision."""
    import torch

    def tensor(numbers, **options):
        return torch.tensor(_floats(numbers), dtype=torch.float64, **options)

    x, y = tensor(exercise.x), tensor(exercise.y)
    parameters = {name: tensor(getattr(exercise, name), requires_grad=True) for name in PARAMETERS}
    hidden = torch.relu(x @ parameters["weights_1"] + parameters["bias_1"])
    outputs = hidden @ parameters["weights_2"] + parameters["bias_2"]
    loss = ((y - outputs) ** 2).sum() / (2 * len(y))
    loss.backward()
    differences = [abs(loss.item() - float(solution.loss))]
    for name, parameter in parameters.items():
        differences.append((parameter.grad - tensor(solution.gradient[name])).abs().max().item())
    return max(differences)


def _floats(numbers):
    return [_floats(n) for n in numbers] if isinstance(numbers, tuple) else float(numbers)


def central_difference(exercise: Exercise, solution: Solution) -> Fraction:
    """The largest difference from (L(p + h) - L(p - h)) / 2h, in fractions.

    The loss is quadratic in each parameter, so it is 0, unless h crosses ReLU's kink.
    """

    def loss(name: str, value) -> Fraction:
        return forward(replace(exercise, **{name: value}), Paper())[-1].value

    worst = Fraction(0)
    for name in PARAMETERS:
        value, gradient = getattr(exercise, name), solution.gradient[name]
        for up, down, slope in _moved(value, gradient):
            numerical = (loss(name, up) - loss(name, down)) / (2 * STEP)
            worst = max(worst, abs(numerical - slope))
    return worst


def _moved(value, gradient):
    """For each number in `value`: the whole with it moved up, and down, and its gradient."""
    if not isinstance(value, tuple):
        yield value + STEP, value - STEP, gradient
        return
    for i, (item, slope) in enumerate(zip(value, gradient, strict=True)):
        for up, down, of in _moved(item, slope):
            yield (*value[:i], up, *value[i + 1 :]), (*value[:i], down, *value[i + 1 :]), of
