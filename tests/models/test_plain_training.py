"""Every learner against a training written out in PyTorch."""

from itertools import islice

import numpy as np
import pytest

from eml.training.loop import TrainingLoop, load_for
from support import plain
from support.commands import config_of

CNN = {"subset": 70, "batch_size": 32}  # the last batch has 6 images


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        # Two kernels for the whole step, and one that tells kernels from biases.
        *(("cifar_cnn", CNN | {"optimizer": name}) for name in ("momentum", "adam", "adafactor")),
        ("mlp_numpy", {"seed": 5, "subset": 333, "batch_size": 50}),
        ("mlp_torch", {"seed": 2}),
        ("cifar_mlp", {"activation": "relu", "subset": 150}),
        ("cifar_mlp", {"optimizer": "adam", "subset": 150}),
    ],
)
def test_trains_as_a_plain_loop_does_also_after_a_pause(recipe, options, small_data):
    # In double precision, so that a wrong step is no rounding.
    device = {} if recipe == "mlp_numpy" else {"device": "cpu"}
    config = config_of(recipe, epochs=2, dtype="float64", **options, **device)
    epochs, network = plain.train(config)
    dataset = load_for(config)
    first = TrainingLoop(config, dataset)
    records = list(islice(first, 2))
    state = {name: value.copy() for name, value in first.learner.training_state().items()}
    second = TrainingLoop(config, dataset, records[-1], state)
    for record, expected in zip([*records, *second], epochs, strict=True):
        assert {key: getattr(record, key) for key in expected} == pytest.approx(expected, rel=1e-9)
    weights = second.learner.state().values()
    for value, parameter in zip(weights, network.parameters(), strict=True):
        weight = value.T if recipe == "mlp_numpy" else value
        np.testing.assert_allclose(weight, parameter.detach(), rtol=0, atol=1e-9)
