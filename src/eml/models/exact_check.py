"""Two independent checks of the exact step: central differences and autograd."""

import re
from dataclasses import replace
from fractions import Fraction

from eml.errors import CheckError
from eml.models.exact_gradients import PARAMETERS, Exercise, Paper, Solution, forward

STEP = Fraction(1, 10**40)  # of the central differences; with fractions no step is too small
NEAR_THE_KINK = 1e-9  # a sum so close to 0 can have the other sign in floating point


def metrics(solution: Solution) -> dict[str, float]:
    """Every value by a name that MLflow accepts: "dL/dw1[1,2]" becomes "dL/dw1.1.2"."""
    return {
        re.sub(r"[\[,]", ".", line.quantity).replace("]", ""): float(line.value)
        for line in solution.lines
    }


def check(exercise: Exercise, solution: Solution, autograd: bool) -> dict[str, float]:
    """The largest differences from central differences and `autograd`, by metric name.

    Leaves out a check that cannot be made because a hidden neuron is at ReLU's kink, where there
    is no derivative. Raises CheckError if a difference is larger than rounding explains.
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

    The loss is quadratic in each parameter, so the difference is 0 unless h crosses ReLU's kink.
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
    """For each number in `value`: `value` with it moved up, and down, and its gradient."""
    if not isinstance(value, tuple):
        yield value + STEP, value - STEP, gradient
        return
    for i, (item, slope) in enumerate(zip(value, gradient, strict=True)):
        for up, down, of in _moved(item, slope):
            yield (*value[:i], up, *value[i + 1 :]), (*value[:i], down, *value[i + 1 :]), of
