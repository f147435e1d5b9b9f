"""Two independent checks of the exact step: central differences and autograd."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from eml.errors import CheckError
from eml.exact.step import PARAMETERS, Paper, Problem, Solution, Value, forward

STEP = Fraction(1, 10**40)  # of the central differences; with fractions no step is too small


def check(problem: Problem, solution: Solution, autograd: bool) -> dict[str, float]:
    """Return the largest differences from central differences and `autograd`, by metric name.

    Returns none where a hidden neuron is at ReLU's kink, which has no derivative. Raises CheckError
    if a difference is larger than rounding explains.
    """
    if any(q.startswith("z[") and value == 0 for _, q, _, value in solution.lines):
        return {}
    differences = {"central_difference": float(central_difference(problem, solution))}
    if autograd:
        differences = {"autograd_difference": autograd_difference(problem, solution)} | differences
    if max(differences.values()) > 1e-12 * max(1, *map(abs, solution.numbers().values())):
        raise CheckError(f"the gradients are wrong: {differences}")
    return differences


def autograd_difference(problem: Problem, solution: Solution) -> float:
    """Return the largest difference from PyTorch's loss and gradients, in double precision."""
    import torch  # takes seconds

    def tensor(value: Value) -> torch.Tensor:
        return torch.tensor(np.asarray(value, float), requires_grad=True)

    parameters = {name: tensor(getattr(problem, name)) for name in PARAMETERS}
    hidden = torch.relu(tensor(problem.x) @ parameters["weights_1"] + parameters["bias_1"])
    outputs = hidden @ parameters["weights_2"] + parameters["bias_2"]
    loss = ((tensor(problem.y) - outputs) ** 2).sum() / (2 * len(problem.y))
    slopes = torch.autograd.grad(loss, list(parameters.values()))
    pairs = zip((loss, *slopes), (solution.loss, *solution.gradient.values()), strict=True)
    return max((actual - tensor(value)).abs().max().item() for actual, value in pairs)


def central_difference(problem: Problem, solution: Solution) -> Fraction:
    """Return the largest difference from (L(p + h) - L(p - h)) / 2h, in fractions.

    The loss is quadratic in each parameter, so the difference is 0 unless h crosses ReLU's kink.
    """

    def loss(name: str, index: tuple[int, ...], step: Fraction) -> Fraction:
        moved: Value = np.array(getattr(problem, name))
        moved[index] += step
        return forward(replace(problem, **{name: moved[()]}), Paper(problem))[-1]

    worst: Fraction = max(
        abs((loss(name, index, STEP) - loss(name, index, -STEP)) / (2 * STEP) - slope)
        for name in PARAMETERS
        for index, slope in np.ndenumerate(solution.gradient[name])
    )
    return worst
