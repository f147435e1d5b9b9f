"""Every optimizer against its rule in NumPy, as PyTorch's documentation writes it.

A rule gets the weights p, their gradients g, its memory m (0 at first), the step t = 1, 2, ... and
the learning rate; it returns the new weights.
"""

import inspect
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch.nn import functional

from eml.analysis.labels import words
from eml.models.optimizers import OPTIMIZERS, REFUSED
from eml.models.torch_learner import TorchLearner
from eml.training.loop import load_for
from support import plain
from support.commands import config_of

CLASSES = {  # of torch.optim, by the name that people type
    name: made
    for name, made in vars(torch.optim).items()
    if inspect.isclass(made) and name != "Optimizer"
} | {"momentum": torch.optim.SGD}


def sgd(p, g, m, t, rate):
    return p - rate * g


def momentum(p, g, m, t, rate):
    m["b"] = 0.9 * m["b"] + g
    return p - rate * m["b"]


def moments(g, m, t):
    """The two moments of Adam and its kind, the first one corrected for its start."""
    m["m"] = 0.9 * m["m"] + 0.1 * g
    m["v"] = 0.999 * m["v"] + 0.001 * g**2
    return m["m"] / (1 - 0.9**t), m["v"]


def adam(p, g, m, t, rate):
    first, second = moments(g, m, t)
    return p - rate * first / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)


def adamw(p, g, m, t, rate):
    return adam(p - rate * 0.01 * p, g, m, t, rate)


def nadam(p, g, m, t, rate):
    _, second = moments(g, m, t)
    mu, following = (0.9 * (1 - 0.5 * 0.96 ** (i * 0.004)) for i in (t, t + 1))
    m["product"] = (m["product"] or 1.0) * mu
    first = following * m["m"] / (1 - m["product"] * following) + (1 - mu) * g / (1 - m["product"])
    return p - rate * first / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)


def radam(p, g, m, t, rate):
    first, second = moments(g, m, t)
    most = 2 / (1 - 0.999) - 1
    rho = most - 2 * t * 0.999**t / (1 - 0.999**t)
    if rho <= 5:
        return p - rate * first
    scale = np.sqrt(1 - 0.999**t) / (np.sqrt(second) + 1e-8)
    rectified = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
    return p - rate * first * np.sqrt(rectified) * scale


def adamax(p, g, m, t, rate):
    first, _ = moments(g, m, t)
    m["u"] = np.maximum(0.999 * m["u"], np.abs(g) + 1e-8)
    return p - rate * first / m["u"]


def adadelta(p, g, m, t, rate):
    m["v"] = 0.9 * m["v"] + 0.1 * g**2
    step = np.sqrt(m["u"] + 1e-6) / np.sqrt(m["v"] + 1e-6) * g
    m["u"] = 0.9 * m["u"] + 0.1 * step**2
    return p - rate * step


def adagrad(p, g, m, t, rate):
    m["sum"] = m["sum"] + g**2
    return p - rate * g / (np.sqrt(m["sum"]) + 1e-10)


def rmsprop(p, g, m, t, rate):
    m["v"] = 0.99 * m["v"] + 0.01 * g**2
    return p - rate * g / (np.sqrt(m["v"]) + 1e-8)


def rprop(p, g, m, t, rate):
    same = np.sign(g * m["g"])
    size = (m["size"] if t > 1 else rate) * np.where(same > 0, 1.2, np.where(same < 0, 0.5, 1.0))
    m["size"] = np.clip(size, 1e-6, 50)
    m["g"] = np.where(same < 0, 0.0, g)
    return p - np.sign(m["g"]) * m["size"]


def asgd(p, g, m, t, rate):
    eta = rate / (1 + 1e-4 * rate * (t - 1)) ** 0.75  # averages from step 1,000,000 on
    return p * (1 - 1e-4 * eta) - eta * g


def adafactor(p, g, m, t, rate):
    share, tiny = t**-0.8, np.finfo(float).eps
    alpha = max(1e-3, np.sqrt(np.mean(p**2))) * min(rate, 1 / np.sqrt(t))
    if p.ndim == 1:
        variance = m["v"] = (1 - share) * m["v"] + share * g**2
    else:
        m["rows"] = (1 - share) * m["rows"] + share * np.mean(g**2, axis=1, keepdims=True)
        m["columns"] = (1 - share) * m["columns"] + share * np.mean(g**2, axis=0, keepdims=True)
        variance = m["rows"] @ m["columns"] / max(m["rows"].mean(), tiny)
    step = g / np.maximum(np.sqrt(variance), tiny)
    return p - alpha * step / max(1, np.sqrt(np.mean(step**2)))


RULES = {
    "SGD": sgd,
    "momentum": momentum,
    "Adam": adam,
    "AdamW": adamw,
    "NAdam": nadam,
    "RAdam": radam,
    "Adamax": adamax,
    "Adadelta": adadelta,
    "Adagrad": adagrad,
    "RMSprop": rmsprop,
    "Rprop": rprop,
    "ASGD": asgd,
    "Adafactor": adafactor,
}


@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_steps_by_its_rule(name, small_data):
    # 60 images in batches of 8 leave 4; 16 steps, because RAdam changes its rule after 5.
    options = {"subset": 60, "batch_size": 8, "dtype": "float64", "device": "cpu"}
    config = config_of("mlp_torch", optimizer=name, **options)
    learner = TorchLearner(config, load_for(config))
    images, labels = plain.data("mnist", 60, config.seed, 0)["train"]
    inputs = (torch.tensor(images).double() / 255 - 0.1307) / 0.3081
    network = plain.network_of(config)
    weights = list(network.parameters())
    initial = [weight.detach().clone() for weight in weights]
    memories: list[dict] = [defaultdict(float) for _ in weights]
    step = 0
    for epoch in (1, 2):
        order = np.random.default_rng([config.seed, epoch]).permutation(60)
        learner.train_epoch(order)
        for index in np.split(order, range(8, 60, 8)):
            step += 1
            loss = functional.cross_entropy(network(inputs[index]), torch.tensor(labels[index]))
            gradients = torch.autograd.grad(loss, weights)
            for weight, gradient, memory in zip(weights, gradients, memories, strict=True):
                values = weight.detach().numpy(), gradient.numpy()
                new = RULES[name](*values, memory, step, config.learning_rate)
                weight.data = torch.tensor(new)
    values = learner.state().values()
    for value, weight, first in zip(values, weights, initial, strict=True):
        # PyTorch keeps some factors of the rate in float32: seven digits.
        error = np.abs(value - weight.detach().numpy()).max()
        assert error < 1e-6 * (weight - first).abs().max().item()


def test_every_optimizer_of_pytorch_has_a_row_or_is_refused():
    assert {name.lower() for name in RULES} == set(OPTIMIZERS)
    assert {name.lower() for name in CLASSES} == OPTIMIZERS.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_row_says_what_the_class_does_by_default(name):
    row, defaults = OPTIMIZERS[name.lower()], inspect.signature(CLASSES[name]).parameters
    assert row.made_by == f"torch.optim.{CLASSES[name].__name__}"
    assert row.default_rate == (0 if row.learning_rate else defaults["lr"].default)
    decays = {key: defaults[key].default for key in ("weight_decay", "lambd") if key in defaults}
    decay = "".join(f" ({key.replace('_', ' ')} {decays[key]:g})" for key in decays if decays[key])
    title = "SGD with momentum" if name == "momentum" else name
    assert words("optimizer", name.lower()) == title + decay
    assert bool(row.fused) == ("fused" in defaults)
    assert row.searched[0] >= row.rate("cnn") >= row.searched[-1]


def test_a_refused_optimizer_takes_no_plain_step():
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    for name in ("LBFGS", "SparseAdam", "Muon"):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            CLASSES[name](model.parameters(), lr=0.1).step()
