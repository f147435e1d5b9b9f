"""Recipes of several trainings: parent and children, what is run again, what is left behind."""

import base64
import dataclasses
import json
import math
import re
import zlib
from pathlib import Path

import pandas as pd
import pytest

from eml.config import VALUES
from eml.errors import CheckError
from eml.machine import THREAD_VARIABLES, Stopped
from eml.models.numpy_mlp import MLP
from eml.sweeps.launch import launch
from eml.sweeps.request import Request
from eml.tracking import find
from eml.training import checkpoints, threads
from support.commands import arguments, config_of, stored_runs, train
from support.interrupted import in_place_of_logging


def sweep(**options) -> dict:
    return {"epochs": 1, "lrs": "1,0.5,0.1,0.05,0.01"} | options


def rates_of(children) -> list[str]:
    return [child.data.params["learning_rate"] for child in children]


def artifacts(store, run_id: str) -> Path:
    return Path(store.download_artifacts(run_id, ""))


def newest(store, recipe: str):
    return [run for run in stored_runs(store) if run.data.tags["recipe"] == recipe][-1]


@pytest.mark.parametrize("recipe", ["mlp_numpy", "lr_sweep"])
def test_a_command_says_where_its_figures_are(recipe, store, eml, environment):
    result = eml(recipe, "--epochs", "1")
    assert result.returncode == 0, result.stderr
    # The command ends with a small table, the page, and one link.
    ending = result.stdout.rpartition("\n\n")[2].splitlines()
    assert len(ending) <= 10
    assert ending[0].split(" | ")[1].strip() == "final test accuracy"
    (page,) = (line for line in ending if line.startswith("figures and tables: "))
    page, charts = Path(page.partition(": ")[2]), ending[-1].rpartition(": ")[2]
    experiment = "http://127.0.0.1:5000/#/experiments/1"
    mode = "workflowType=machine_learning"
    top = find_top(store)
    assert page.parts[-3:] == (top.info.run_id, "artifacts", "compare.html")
    if recipe == "mlp_numpy":
        assert charts == f"{experiment}/runs/{top.info.run_id}/model-metrics?{mode}"
    else:
        title, state = saved_view(store, charts)
        assert title == top.info.run_name == "lr_sweep epochs=1"
        children = {run.info.run_id for run in stored_runs(store)} - {top.info.run_id}
        assert set(re.findall(r"\w{32}", state["searchFilter"])) == children
        assert "groupBy" not in state  # one run each, so there are charts over seconds, too
        assert {chart["xAxisKey"] for chart in state["compareRunCharts"]} == {"step", "metric"}
    assert (page.parent / "test_accuracy_over_epochs.png").stat().st_size > 10_000


def saved_view(store, address: str) -> tuple[str, dict]:
    """Title and state of the view that an address of the UI names."""
    key = address.rpartition("viewStateShareKey=")[2]
    tag = store.get_experiment_by_name("test").tags[f"mlflow.sharedViewState.{key}"]
    view = json.loads(tag)
    packed = view["state"].removeprefix("deflate;")
    return view["name"], json.loads(zlib.decompress(base64.b64decode(packed)))


def find_top(store):
    (run,) = [run for run in stored_runs(store) if "mlflow.parentRunId" not in run.data.tags]
    return run


@pytest.mark.parametrize(
    ("recipe", "options", "at_once"),
    [
        ("lr_sweep", {}, 3),
        ("lr_sweep", {"jobs": "2"}, 2),
        ("lr_sweep", {"launcher": "inline"}, 1),
        ("optimizers", {"device": "cpu"}, 3),
        ("mlp_vs_cnn", {"device": "cpu"}, 1),  # seconds are compared
        ("mlp_vs_cnn", {"device": "cpu", "jobs": "2"}, 2),
        ("mlp_numpy", {}, 1),
    ],
)
def test_cores_are_used_by_workers_where_accuracies_alone_are_compared(
    recipe, options, at_once, monkeypatch
):
    monkeypatch.setattr("eml.machine.usable_cores", lambda: 3)
    request = Request.of(*arguments(recipe, **{"launcher": "auto"} | options))
    assert request.launcher.at_once == at_once
    assert request.launcher.in_this_run == (at_once == 1)
    is_chosen = request.launching.jobs != "auto"
    assert request.finals_launcher.at_once == (at_once if is_chosen else 1)


def test_where_seconds_are_compared_all_have_the_threads_of_the_first(
    small_data, store, monkeypatch
):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "TURN_SECONDS", 1e-4)
    take_up = find.threads_beside
    asked = []

    def first_chooses_two(parent, validation):
        asked.append(take_up(parent, validation))
        return asked[-1] or 2

    monkeypatch.setattr(find, "threads_beside", first_chooses_two)
    train("mlp_vs_cnn", epochs=1, subset=100, device="cpu")
    assert asked == [0, 2]
    assert {run.data.tags.get("threads") for run in stored_runs(store)} == {"2", None}


@pytest.mark.parametrize("factor", [1 + 1e-5, math.nan])
def test_a_failed_check_ends_the_run_before_training(factor, small_data, store, monkeypatch):
    train("mlp_numpy", epochs=1, check="true")
    backward = MLP.backward

    def off(model, scale=1.0):
        backward(model, scale)
        model.gradients["bias_2"] *= factor

    monkeypatch.setattr(MLP, "backward", off)
    with pytest.raises(CheckError):
        train("mlp_numpy", epochs=1, check="true", resume=False)
    right, wrong = stored_runs(store)
    assert (right.info.status, wrong.info.status) == ("FINISHED", "FAILED")
    assert 0 < right.data.metrics["gradient_check_error"] < 1e-6
    error = pytest.approx(factor - 1, rel=0.1, nan_ok=True)
    assert wrong.data.metrics == {"gradient_check_error": error}


def test_a_sweep_has_a_child_for_each_rate_also_for_one_that_diverges(small_data, store):
    recipe, configs, *options = arguments("lr_sweep", **sweep())
    configs[1] = dataclasses.replace(configs[1], learning_rate=1e38)
    launch(recipe, configs, *options)
    parent, *children = stored_runs(store)
    assert parent.data.tags["recipe"] == "lr_sweep"
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 6
    assert rates_of(children) == ["1.0", "1e+38", "0.1", "0.05", "0.01"]
    assert all(c.data.tags["mlflow.parentRunId"] == parent.info.run_id for c in children)
    folder = artifacts(store, parent.info.run_id)
    assert (folder / "test_accuracy_over_epochs.png").stat().st_size > 10_000
    table = pd.read_csv(folder / "summary.csv")
    assert list(table["learning_rate"]) == [0.01, 0.05, 0.1, 1, 1e38]
    diverged = children.pop(1)
    assert "diverged" in diverged.data.tags
    assert table["diverged"].dropna().to_dict() == {4: "seed 1 in epoch 1"}
    for child, row in zip(children[::-1], table[:4].itertuples(), strict=True):
        assert "diverged" not in child.data.tags
        assert row.run_ids == child.info.run_id
        assert row.final_test_accuracy == child.data.metrics["final_test_accuracy"]
        assert row.best_epoch == child.data.metrics["best_epoch"]
    assert (folder / "summary.md").exists()


def test_an_interrupted_sweep_goes_on_in_its_own_run(small_data, store, monkeypatch):
    logged = []

    def stop_in_the_third(record, log):
        if len(logged) == 5:  # two records for each training
            raise Stopped(2)
        logged.append(record)
        log()

    with monkeypatch.context() as patch:
        in_place_of_logging(patch, stop_in_the_third)
        with pytest.raises(Stopped):
            train("lr_sweep", **sweep())
    states = ["KILLED", "FINISHED", "FINISHED", "KILLED"]
    before = stored_runs(store)
    assert [run.info.status for run in before] == states
    train("lr_sweep", **sweep())
    parent, *children = stored_runs(store)
    assert [run.info.run_id for run in (parent, *children)][:4] == [r.info.run_id for r in before]
    assert rates_of(children) == ["1.0", "0.5", "0.1", "0.05", "0.01"]
    assert all(run.info.status == "FINISHED" for run in (parent, *children))
    assert not any("stopped" in run.data.tags for run in (parent, *children))
    assert children[1].info.end_time == before[2].info.end_time  # not trained again
    table = pd.read_csv(artifacts(store, parent.info.run_id) / "summary.csv")
    assert list(table["run_ids"]) == [child.info.run_id for child in children[::-1]]
    assert not list(checkpoints.directory().rglob("*.safetensors"))


def test_a_sweep_takes_what_another_has_finished(small_data, store):
    train("mlp_numpy", epochs=1, lr=0.5)
    (done,) = stored_runs(store)
    train("lr_sweep", **sweep())
    parent = newest(store, "lr_sweep")
    assert parent.data.tags["reused_runs"] == done.info.run_id
    assert len(stored_runs(store)) == 6
    table = pd.read_csv(artifacts(store, parent.info.run_id) / "summary.csv")
    assert dict(zip(table["learning_rate"], table["run_ids"], strict=True))[0.5] == done.info.run_id
    train("lr_sweep", **sweep(resume=False))
    again = newest(store, "lr_sweep")
    assert "reused_runs" not in again.data.tags
    assert len(find.children(again.info.run_id)) == 5


def test_a_deleted_run_is_not_used_again(small_data, store):
    config = config_of("mlp_numpy", epochs=1)
    train("mlp_numpy", epochs=1)
    (done,) = stored_runs(store)
    assert find.finished_training(config).run_id == done.info.run_id
    store.delete_run(done.info.run_id)
    assert find.finished_training(config) is None


def test_two_devices_are_children_with_the_same_history(small_data, store, monkeypatch):
    # Two CPUs stand in for a CPU and a GPU.
    monkeypatch.setitem(VALUES, "device_type", ("cpu", "cpu:0"))
    recipe, (config,), *options = arguments("cpu_vs_gpu", devices="cpu", epochs=2)
    launch(recipe, [config, dataclasses.replace(config, device_type="cpu:0")], *options)
    parent, *children = stored_runs(store)
    assert [c.data.params["device_type"] for c in children] == ["cpu", "cpu:0"]
    histories = [
        [point.value for point in store.get_metric_history(c.info.run_id, "test_loss")]
        for c in children
    ]
    assert len(histories[0]) == 3
    assert histories[0] == histories[1]
    names = {file.name for file in artifacts(store, parent.info.run_id).glob("*.png")}
    assert names == {
        "test_accuracy_over_train_seconds.png",
        "test_accuracy_over_epochs.png",
    }


def test_cpu_vs_gpu_without_a_gpu_says_so(eml, store):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = eml("cpu_vs_gpu")
    assert result.returncode == 2
    assert result.stderr.startswith("eml: devices=cpu,cuda: no GPU can be used here")
    assert not stored_runs(store)
