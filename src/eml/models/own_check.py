"""Checks a user's own code before it trains, with one batch of random images, against eml's.

The first check that fails raises UserError with one line; the others tell what they found.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.special import softmax

from eml.config import Config
from eml.data.specs import SPECS
from eml.errors import UserError
from eml.models import own_code
from eml.models.gradient_check import relative_errors
from eml.models.numpy_mlp import MLP, initial_weights, mlp_sizes
from eml.models.own_mlp import CLASSES, OwnMLP, named

BATCH, SMALLER = 64, 48  # images; the last batch of an epoch is smaller
TOLERANCE = 1e-3  # relative: float32 is more exact, and a mistake changes more
ENTRIES = 5  # of each array, compared with central differences
SLOW = 1e-4  # learning rate at which a step hardly changes what it still needs
LARGE = 1000.0  # its exp() is infinite in every dtype
Weights = Mapping[str, np.ndarray]  # arrays by name
UNTRAINED = (2.1, 2.7)  # loss; log(10) = 2.3 if all classes are equally probable


def check_each(path: str, configs: Iterable[Config]) -> dict[str, str]:
    """Check the code for each network of these Configs; return what was found, by network."""
    here: dict[str, Any] = {"device_type": "cpu", "precision": Config.precision}
    networks = {config.model: replace(config, **here) for config in configs if path}
    return {name: check(path, config) for name, config in networks.items()}


@cache
def check(path: str, config: Config) -> str:
    """Check the code at `path` in the place of a Config's network, once; return what was found."""
    code, name, lines = own_code.load(path, config.code_sha256), Path(path).name, list[str]()
    is_numpy = config.framework == "numpy"
    what = "MLP" if is_numpy else config.model
    if not callable(getattr(code, what, None)):
        raise UserError(f"{name} has no {'class' if is_numpy else 'function'} {what}")
    with own_code.errors_shown(blamed=name), np.errstate(all="ignore"):
        try:
            for line in (_check_numpy if is_numpy else _check_torch)(code, config):
                print(f"{name}: {line}", flush=True)
                lines.append(line)
        except UserError as wrong:
            raise UserError(f"{name}: {wrong}") from None
    return "; ".join(lines)


def _require(right: object, wrong: str) -> None:
    if not right:
        raise UserError(wrong)


def _batch(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Random images (batch, channels, ...), scaled, in float64, and labels (batch,)."""
    spec, rng = SPECS[config.dataset], np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCH, *spec.image_shape))
    pixels = pixels.reshape(BATCH, -1, *spec.image_shape[-2:])
    return pixels * spec.scaling.factor + spec.scaling.offset, rng.integers(0, CLASSES, BATCH)


def _check_numpy(code: ModuleType, config: Config) -> Iterator[str]:
    """Check a class MLP, in float64."""
    images, labels = _batch(config)
    images = images.reshape(BATCH, -1)  # (batch, 784)
    weights = initial_weights(mlp_sizes(images.shape[1]), config.seed)
    loss, probabilities = _check_forward(code, weights, images, labels)
    yield f"forward: loss of the untrained network {loss:.4f}, as in eml's"
    for size in (BATCH, SMALLER):
        some, reference = (images[:size], labels[:size]), MLP(weights, BATCH)
        reference.forward(*some)
        reference.backward()
        expected = named(reference.gradients)
        scored, gradients = _step(code, weights, some, 1.0)
        _require(_near(scored, probabilities[:size]), "step gives other probabilities than forward")
        slow = _step(code, weights, some, SLOW)[1]
        faults = {name: _fault(gradients[name], expected[name], size) for name in gradients}
        if wrong := [name for name, fault in faults.items() if fault]:
            first, fault = wrong[0], faults[wrong[0]]
            if not _fault(slow[first], expected[first], size):
                fault = "is made with weights that the step has already changed: update them last"
            elif "difference" in fault and first not in list(faults)[:2]:
                fault += ": the layers above are right, so look at the sigmoid's derivative"
            also = f"; wrong too: {', '.join(wrong[1:])}" if wrong[1:] else ""
            raise UserError(f"step of {size} images: the gradient of {first} {fault}{also}")
        if any(_fault(slow[name], expected[name], size) for name in slow):
            raise UserError(f"step is right at learning_rate=1, but not in proportion at {SLOW:g}")
    apart = {name: _apart(gradients[name], expected[name]) for name in gradients}
    worst = max(apart, key=apart.__getitem__)
    reference.gradients = {n: gradients[own] for n, own in zip(weights, expected, strict=True)}
    error = max(relative_errors(reference, *some, ENTRIES).values())
    _require(error < TOLERANCE, f"step: {error:.1g} away from central differences of the loss")
    line = f"step: gradients within {apart[worst]:.1g} of eml's ({worst}), relative,"
    yield f"{line} and {error:.1g} of central differences"
    whole, broken = OwnMLP(code, weights), OwnMLP(code, weights)
    for _ in range(2):
        whole.train(*some, 1.0)
        broken.train(*some, 1.0)
        broken.load(broken.weights)
    same = all(_near(whole.weights[name], weight) for name, weight in broken.weights.items())
    _require(same, "MLP(weights()) goes on differently: a step may depend on weights() alone")


def _check_forward(
    code: ModuleType, weights: Weights, images: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """Check forward() and weights(); return the mean loss and the probabilities (batch, 10)."""
    own, before = OwnMLP(code, weights), images.copy()

    def is_unchanged() -> bool:
        now, given = own.weights, named(weights)
        return now.keys() == given.keys() and all(np.array_equal(now[n], given[n]) for n in given)

    shapes = ", ".join(f"{name} {weight.shape}" for name, weight in named(weights).items())
    _require(is_unchanged(), f"weights() of a new MLP must be what it was given: {shapes}")
    losses, probabilities = map(np.array, own.forward(images, labels))
    same = np.array_equal(images, before) and is_unchanged()
    _require(same, "forward changes its images or the weights")
    again = own.forward(images, labels)[1]
    _require(np.array_equal(again, probabilities), "forward: two calls give different results")
    hint = ", but columns do: take axis=1" if _near(probabilities.sum(axis=0), 1) else ""
    _require(_near(probabilities.sum(axis=1), 1), f"forward: rows do not sum to 1{hint}")
    right, logits = MLP(dict(weights), BATCH).forward(images, labels)
    wrong = f"loss of the untrained network {losses.mean():.4f}, but {right.mean():.4f} in eml's"
    _require(_near(probabilities, softmax(logits, axis=1)), f"forward: {wrong}")
    for name, where in {"bias_3": "logits", "bias_2": "sigmoids", "bias_1": "sigmoids"}.items():
        for large in (LARGE, -LARGE):  # different ones, so that some probabilities are 0
            moved = {**weights, name: large * np.arange(1, len(weights[name]) + 1)}
            expected = softmax(MLP(dict(moved), BATCH).forward(images, labels)[1], axis=1)
            own, values = OwnMLP(code, moved), f"at {where} of {large:g} and beyond"
            result = own.forward(images, labels)[1]
            _require(_near(result, expected), f"forward: overflow {values}")
            own.train(images, labels, 1.0)
            finite = all(np.isfinite(weight).all() for weight in own.weights.values())
            _require(finite, f"step: NaN {values}")
    return float(losses.mean()), probabilities


def _step(
    code: ModuleType, weights: Weights, batch: tuple[np.ndarray, np.ndarray], learning_rate: float
) -> tuple[np.ndarray, Weights]:
    """The probabilities of a step, and (before - after) / learning_rate, the last layer first."""
    own, before = OwnMLP(code, weights), named(weights)
    scored, after = np.array(own.train(*batch, learning_rate)[1]), own.weights
    names = sorted(before, key=lambda name: (name[-1], name[0]), reverse=True)
    return scored, {name: (before[name] - after[name]) / learning_rate for name in names}


def _fault(gradient: np.ndarray, expected: np.ndarray, batch: int) -> str:
    """What is wrong with a gradient, in words; "" if it is right."""
    if _apart(gradient, expected) < TOLERANCE:
        return ""
    if not gradient.any():
        return "is 0: the step does not change it"
    ratio = float(np.vdot(gradient, expected) / np.vdot(expected, expected))
    if _apart(gradient, ratio * expected) < TOLERANCE:
        known = {
            batch: ", the sum over the batch in place of the mean",
            1 / batch: ", divided by the batch twice",
            1 / CLASSES: ", divided by the number of classes too",
            batch / BATCH: f", divided by {BATCH} in place of the number of images",
            1: "",  # also of a whole batch
        }
        why = next((w for value, w in known.items() if np.isclose(abs(ratio), value, 0.01)), "")
        return f"is {ratio:.4g} times the right one{why}{', the sign is wrong' * (ratio < 0)}"
    if _apart(gradient.ravel(), expected.T.ravel()) < TOLERANCE:
        return "is transposed"
    return f"is wrong (relative difference {_apart(gradient, expected):.2g})"


def _apart(array: np.ndarray, expected: np.ndarray) -> float:
    """The difference of two arrays relative to `expected`, as lengths of vectors."""
    return float(np.linalg.norm(array - expected) / np.linalg.norm(expected))


def _near(array: np.ndarray, expected: np.ndarray | float) -> bool:
    return np.allclose(array, expected, rtol=1e-4, atol=1e-6)


def _check_torch(code: ModuleType, config: Config) -> Iterator[str]:
    """Check the network of a function mlp() or cnn(). Another one than eml's is welcome."""
    import torch
    from torch.nn.functional import nll_loss

    from eml.models.torch_networks import make_model

    own, eml = make_model(config, code), make_model(config).eval()
    pixels, classes = _batch(config)
    images, labels = torch.tensor(pixels).to(getattr(torch, config.dtype)), torch.tensor(classes)
    own.eval()
    with torch.no_grad():
        outputs, again, alone = own(images), own(images), own(images[:1])
    shapes = [tuple(outputs.shape), tuple(alone.shape)]
    _require(shapes == [(BATCH, CLASSES), (1, CLASSES)], f"output has the shapes {shapes}")
    sums, hint = outputs.exp().sum(dim=1).numpy(), "end with LogSoftmax(dim=1)"
    _require(_near(sums, 1), f"rows of exp(output) do not sum to 1: {hint}")
    _require(torch.equal(outputs, again), "two calls in eval() give different results")
    _require(torch.allclose(outputs[:1], alone, 1e-3), "an image alone gives another result")
    untrained = float(nll_loss(outputs, labels))
    wrong = f"loss of the untrained network {untrained:.2f}, not {UNTRAINED}: too large weights?"
    _require(UNTRAINED[0] <= untrained <= UNTRAINED[1], wrong)
    nll_loss(own.train()(images), labels).backward()
    for name, weight in own.named_parameters():
        finite = weight.grad is not None and bool(weight.grad.isfinite().all())
        _require(finite or not weight.requires_grad, f"{name} gets no finite gradient")
    yield f"{config.model}: loss of the untrained network {untrained:.2f}, finite gradients"
    mine, theirs = own.state_dict(), eml.state_dict()
    if [value.shape for value in mine.values()] != [value.shape for value in theirs.values()]:
        one, other = (f"{sum(p.numel() for p in m.parameters()):,}" for m in (own, eml))
        yield f"not compared: another architecture ({one} parameters, eml's {other})"
        return
    own.load_state_dict(dict(zip(mine, theirs.values(), strict=True)))
    with torch.no_grad():
        apart = float((own.eval()(images) - eml(images)).abs().max())
    yield f"log-probabilities differ by up to {apart:.1g} from eml's network with the same weights"
