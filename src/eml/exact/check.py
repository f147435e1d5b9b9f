"""Two independent checks of the exact step: central differences and autograd."""

from fractions import Fraction
from typing import Any

from eml.errors import CheckError
from eml.exact.step import PARAMETERS, Paper, Problem, Solution, Value, flat, forward

STEP = Fraction(1, 10**40)  # of the central differences; with fractions no step is too small
NEAR_THE_KINK = 1e-9  # a sum so close to 0 can have the other sign in floating point


def check(problem: Problem, solution: Solution, autograd: bool) -> dict[str, float]:
    """The largest differences from central differences and `autograd`, by metric name.

    Leaves out a check that cannot be made because a hidden neuron is at ReLU's kink, where there
    is no derivative. Raises CheckError if a difference is larger than rounding explains.
    """
    sums = [v for _, q, _, v in solution.lines if q.startswith("z[") and not q.endswith("after")]
    differences = {}
    if autograd and min(map(abs, sums)) > NEAR_THE_KINK:
        differences["autograd_difference"] = autograd_difference(problem, solution)
    if 0 not in sums:
        differences["central_difference"] = float(central_difference(problem, solution))
    largest = max(map(abs, solution.numbers().values()))
    if max(differences.values(), default=0) > 1e-12 * max(largest, 1):
        raise CheckError(f"the gradients are wrong: {differences}")
    return differences


def autograd_difference(problem: Problem, solution: Solution) -> float:
    """The largest difference from PyTorch's loss and gradients, in double precision."""
    import torch  # takes seconds

    def floats(value: Any) -> Any:
        return list(map(floats, value)) if isinstance(value, tuple) else float(value)

    def tensor(value: Value, requires_grad: bool = False) -> torch.Tensor:
        return torch.tensor(floats(value), dtype=torch.float64, requires_grad=requires_grad)

    x, y = tensor(problem.x), tensor(problem.y)
    parameters = {name: tensor(getattr(problem, name), requires_grad=True) for name in PARAMETERS}
    hidden = torch.relu(x @ parameters["weights_1"] + parameters["bias_1"])
    outputs = hidden @ parameters["weights_2"] + parameters["bias_2"]
    loss = ((y - outputs) ** 2).sum() / (2 * len(y))
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    differences = [abs(loss.item() - float(solution.loss))]
    for name, gradient in zip(parameters, gradients, strict=True):
        differences.append((gradient - tensor(solution.gradient[name])).abs().max().item())
    return max(differences)


def central_difference(problem: Problem, solution: Solution) -> Fraction:
    """The largest difference from (L(p + h) - L(p - h)) / 2h, in fractions.

    The loss is quadratic in each parameter, so the difference is 0 unless h crosses ReLU's kink.
    """
    paper, worst = Paper(problem), Fraction()
    for name, short in PARAMETERS.items():
        for key, slope in flat((short,), solution.gradient[name]).items():
            up, down = (forward(Paper(problem, {key: paper[key] + h})) for h in (STEP, -STEP))
            worst = max(worst, abs((up - down) / (2 * STEP) - slope))
    return worst
