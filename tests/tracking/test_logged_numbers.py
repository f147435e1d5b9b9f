"""The numbers in the store against a training written out in PyTorch, in double precision."""

import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from eml.launchers import worker
from eml.launchers.base import Task
from eml.tracking import runs
from support import plain
from support.commands import config_of, stored_runs

LAYERS = ("conv1", "conv2", "conv3", "linear1", "linear2", "linear3")


def weights_in(file: str, framework: str) -> list[np.ndarray]:
    """Weights and biases, a layer after the other, the weights as PyTorch has them."""
    saved = load_file(file)
    if framework == "numpy":
        return [saved[f"{kind}_{n}"].T for n in (1, 2, 3) for kind in ("weights", "bias")]
    names = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
    return [saved[name] for name in names if name in saved]


@pytest.mark.parametrize(
    ("recipe", "options", "validation"),
    [
        ("mlp_numpy", {"epochs": 3, "lr": 0.03, "dtype": "float64"}, 0),
        ("mlp_torch", {"activation": "relu", "lr": "0.003"}, 120),
        ("cifar_cnn", {"optimizer": "rmsprop", "subset": 70, "dtype": "float64"}, 0),
    ],
)
def test_what_is_logged_is_what_a_plain_training_gives(
    recipe, options, validation, small_data, store, tmp_path
):
    device = {} if recipe == "mlp_numpy" else {"device": "cpu"}
    config = config_of(recipe, **{"epochs": 2} | options | device)
    config = replace(config, validation=validation)
    precision = {"float64": 1e-9, "float32": 1e-5}[config.dtype]
    epochs, network = plain.train(config)
    held_out = "validation" if validation else "test"
    trained, evaluated = epochs[-1]["train_accuracy"], epochs[-1][f"{held_out}_accuracy"]
    assert trained != evaluated  # so that they cannot be mistaken for each other

    began = time.time_ns() // 1_000_000
    with runs.run("parent", "", {}) as parent:
        worker.train(Task(config=config, parent=parent))
    run = stored_runs(store)[-1]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        points = database.execute(
            "SELECT key, step, value, timestamp FROM metrics WHERE run_uuid = ? AND NOT is_nan",
            [run.info.run_id],
        ).fetchall()
    logged = {(key, step): value for key, step, value, _ in points}
    assert len(logged) == len(points)
    assert all(began <= timestamp <= time.time_ns() // 1_000_000 for *_, timestamp in points)
    expected = {(key, e): value for e, scores in enumerate(epochs) for key, value in scores.items()}
    assert {key: logged[key] for key in expected} == pytest.approx(expected, rel=precision)
    clocks = ["train_seconds", "train_cpu_seconds", "eval_seconds", "wall_seconds", "next_threads"]
    whole = [f"best_{held_out}_accuracy", "best_epoch", f"final_{held_out}_accuracy"]
    later = ["images_per_second", "slowdown"]
    assert logged.keys() == {
        *((key, epoch) for epoch in range(len(epochs)) for key in [*epochs[0], *clocks]),
        *((key, epoch) for epoch in range(1, len(epochs)) for key in later),
        *((key, 0) for key in [*whole, "setup_seconds"]),
    }
    accuracies = [scores[f"{held_out}_accuracy"] for scores in epochs]
    best = max(accuracies)
    assert [logged[key, 0] for key in whole] == [best, accuracies.index(best), accuracies[-1]]

    data = plain.data(config.dataset, config.subset, config.seed, validation)
    images = {f"{split}_images": str(len(labels)) for split, (_, labels) in data.items()}
    weights = [parameter.detach().numpy() for parameter in network.parameters()]
    images["parameters"] = str(sum(array.size for array in weights))
    assert images.items() <= run.data.params.items()
    (model,) = store.search_logged_models([run.info.experiment_id])
    (file,) = tmp_path.rglob("*.safetensors")
    assert model.source_run_id == run.info.run_id
    for saved, array in zip(weights_in(file, config.framework), weights, strict=True):
        np.testing.assert_allclose(saved, array, rtol=0, atol=precision)
