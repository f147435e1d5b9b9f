"""`mlflow run` on the real images: it learns, it does not only end."""

import pytest

from eml.data import cache, datasets, specs
from eml.errors import UserError
from eml.models.numpy_mlp import NumpyLearner
from eml.models.torch_learner import TorchLearner
from eml.seeds import order_of
from support.commands import call, config_of, mlflow_command, stored_runs

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


@pytest.fixture(scope="module")
def real_data():
    """Both datasets in the cache, or a skip with the reason why they cannot be had."""
    for name in specs.SPECS:
        try:
            cache.fetch(name)
        except UserError as error:
            pytest.skip(f"real data cannot be had: {error}")


def test_the_twins_agree_at_every_step_of_an_epoch(real_data):
    dataset = datasets.load("mnist")
    learners = [
        NumpyLearner(config_of("mlp_numpy", dtype="float64"), dataset),
        TorchLearner(config_of("mlp_torch", dtype="float64", device="cpu"), dataset),
    ]
    order = order_of(1, 1, 60_000)
    for start in range(0, 60_000, 64):
        losses = [learner.train_epoch(order[start : start + 64]).loss for learner in learners]
        assert losses[0] == pytest.approx(losses[1], abs=1e-9)


@pytest.mark.parametrize(
    ("entry_point", "parameters", "accuracy"),
    [
        ("mlp_numpy", {"subset": 10_000, "epochs": 4}, 0.80),
        ("mlp_torch", {"subset": 10_000, "epochs": 4}, 0.80),
        ("cifar_cnn", {"subset": 5_000, "epochs": 4, "optimizer": "adam"}, 0.40),
    ],
)
def test_it_learns(entry_point, parameters, accuracy, real_data, store, on_path):
    result = call(mlflow_command(entry_point, **parameters))
    assert result.returncode == 0, result.stderr
    (run,) = stored_runs(store)
    losses = [p.value for p in store.get_metric_history(run.info.run_id, "train_loss")]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 5
    assert run.data.metrics["final_test_accuracy"] > accuracy
