"""eml.load_model: networks that score what was logged, and errors in one line."""

import re
import sqlite3

import numpy as np
import pytest
import torch

import eml as package
from eml.errors import UserError
from support import plain
from support.commands import configs_of, stored_runs, train


@pytest.mark.parametrize("recipe", ["mlp_numpy", "mlp_torch", "cifar_cnn"])
def test_a_loaded_network_scores_what_was_logged(recipe, small_data, store):
    options = {"epochs": 2, "subset": 100}
    train(recipe, **options)
    (run,) = stored_runs(store)
    (model,) = store.search_logged_models([run.info.experiment_id])
    call = re.search("`(.*)`", model.tags["mlflow.note.content"])[1]
    config, network = eval(call, {"eml": package})
    assert [config] == configs_of(recipe, **options)
    images, labels = plain.data(config.dataset, config.subset, config.seed, 0)["test"]
    mean, deviation = plain.MEAN_AND_DEVIATION[config.dataset]
    images = ((images / 255 - mean) / deviation).astype(np.float32)
    losses, hits = [], []
    for image, label in zip(images, labels, strict=True):
        if config.framework == "numpy":
            _, (outputs,) = network.forward(image.reshape(1, -1), np.array([label]))
            losses.append(np.log(np.exp(outputs).sum()) - outputs[label])
        else:
            (outputs,) = network(torch.from_numpy(image[None])).detach().numpy()
            losses.append(-outputs[label])
        hits.append(outputs.argmax() == label)
    assert np.mean(hits) == pytest.approx(run.data.metrics["final_test_accuracy"], abs=1e-12)
    assert np.mean(losses) == pytest.approx(run.data.metrics["test_loss"], rel=1e-5)
    assert not getattr(network, "training", False)
    if config.framework == "numpy":  # all test images at once
        assert network.forward(images.reshape(len(images), -1), labels)[1].shape == (20, 10)


def test_an_id_without_a_model_of_eml_is_one_line(small_data, store):
    def error_of(run_id: str) -> str:
        with pytest.raises(UserError) as error:
            package.load_model(run_id)
        return error.value.shown()

    foreign = store.create_run("1").info.run_id
    store.create_logged_model("1", source_run_id=foreign)
    assert error_of("abc").startswith("no run abc in the store sqlite")
    assert error_of(foreign).startswith(f"run {foreign} holds no finished training")
    for recipe, key, value, line in (
        ("mlp_numpy", "framework", "torch", "do not fit its Config"),
        ("mlp_torch", "framework", "numpy", "do not fit its Config"),
        ("mlp_torch", "model", "vit", "no Config of this version of eml .model=vit: give one of"),
    ):
        train(recipe, epochs=1, subset=100)
        run_id = stored_runs(store)[-1].info.run_id
        with sqlite3.connect("mlflow.db") as db:
            change = "UPDATE params SET value = ? WHERE key = ? AND run_uuid = ?"
            db.execute(change, (value, key, run_id))
        db.close()
        assert re.search(line, error_of(run_id[:10])), error_of(run_id)
