"""The comparison of optimizers as a whole, on small data: protocol, plan, resuming."""

import math
import os
import random
import re
import signal
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from eml.analysis.options import Selection
from eml.errors import UserError
from eml.launchers.options import LaunchOptions
from eml.launchers.worker import Inline
from eml.models.torch_learner import TorchLearner
from eml.recipes import RECIPES
from eml.sweeps import compare_optimizers
from eml.sweeps.launch import plan
from eml.sweeps.request import Request
from eml.sweeps.search import Choice
from eml.sweeps.search_plan import SearchPlan, search_plan
from eml.sweeps.status import TrainingStatus
from eml.tracking import find
from eml.tracking.compare import compare
from eml.tracking.history import load_history
from eml.training import cost
from eml.training.cost import Cost, kind_of, makespan
from support.commands import arguments, call, eml_command, stored_runs, train

SMALL = {
    "optimizers": "sgd,adam",
    "lrs": "0.1,0.01,0.001",
    "seeds": "1,2",
    "epochs": 4,
    "search_epochs": 2,
    "batch_size": 5,
    "subset": 100,
}


@pytest.fixture
def quick_probes(monkeypatch):
    monkeypatch.setattr(cost, "PROBE_SECONDS", 0.05)


def options(**changes) -> dict:
    return SMALL | {"device": "cpu"} | changes


def typed(**changes) -> list[str]:
    values = SMALL | changes
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


def results(store) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary of the newest comparison of optimizers, and its grid; but for ids and times."""
    (parent,) = [r for r in stored_runs(store) if r.data.tags.get("recipe") == "optimizers"][-1:]
    folder = store.download_artifacts(parent.info.run_id, "")
    summary = pd.read_csv(f"{folder}/summary.csv").drop(columns="run_ids")
    grid = pd.read_csv(f"{folder}/grid/grid.csv").drop(columns="run_id")
    times = [name for name in summary if "seconds" in name]
    return summary.drop(columns=times), grid


def test_the_protocol(small_data, store, quick_probes, capsys):
    train("optimizers", **options())
    parent, *children = stored_runs(store)
    assert (parent.info.status, parent.info.run_name) == (
        "FINISHED",
        "optimizers epochs=4 subset=100",
    )
    searched = [c for c in children if c.data.params["validation"] != "0"]
    finals = [c for c in children if c.data.params["validation"] == "0"]
    assert len(searched) == 6
    for run in searched:  # choosing never saw a test image
        params = run.data.params
        assert (params["train_images"], params["validation_images"]) == ("90", "10")
        assert "test_accuracy" not in run.data.metrics
        assert (params["seed"], params["epochs"]) == ("1", "2")
    assert sorted(run.data.params["seed"] for run in finals) == ["1", "1", "2", "2"]
    for run in finals:
        assert (run.data.params["train_images"], run.data.params["epochs"]) == ("100", "4")
        assert "validation_accuracy" not in run.data.metrics
        assert len(store.get_metric_history(run.info.run_id, "test_accuracy")) == 5
    assert {run.info.status for run in children} == {"FINISHED"}
    summary, grid = results(store)
    assert summary["n"].tolist() == [2, 2]
    assert grid["outcome"].value_counts()["chosen"] == 2
    chosen = grid[grid["outcome"] == "chosen"].set_index("optimizer")["learning_rate"]
    for run in finals:
        assert chosen[run.data.params["optimizer"]] == float(run.data.params["learning_rate"])
    # The number that decided is the one in the table.
    for run in searched:
        points = store.get_metric_history(run.info.run_id, "validation_accuracy")
        row = grid[(grid["optimizer"] == run.data.params["optimizer"])]
        row = row[row["learning_rate"] == float(run.data.params["learning_rate"])]
        assert row["validation_accuracy"].item() == max(points, key=lambda p: p.step).value
    printed = capsys.readouterr().out
    assert "chosen" in printed
    # A second time nothing is trained.
    before = {run.info.run_id for run in stored_runs(store)}
    train("optimizers", **options())
    new = [run for run in stored_runs(store) if run.info.run_id not in before]
    assert [run.data.tags["recipe"] for run in new] == ["optimizers"]
    for one, other in zip((summary, grid), results(store), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_beside_a_final_training_that_diverges_the_next_lower_rate_is_trained(
    small_data, store, quick_probes, monkeypatch, capsys
):
    step = TorchLearner.train_epoch

    def diverge_on_all_images(learner, order):
        score = step(learner, order)
        is_final = learner.config.validation == 0 and learner.config.learning_rate > 0.05
        return score._replace(loss=math.nan) if is_final else score

    monkeypatch.setattr(TorchLearner, "train_epoch", diverge_on_all_images)
    monkeypatch.setattr(compare_optimizers, "choose", lambda configs, _: Choice(configs[0], [], []))
    train("optimizers", **options(optimizers="sgd", epochs=2))
    assert "sgd diverged at 0.1 on all images: 0.01 is trained beside it" in capsys.readouterr().out
    summary, _ = results(store)
    assert summary["learning_rate"].tolist() == [0.01, 0.1]
    assert summary["diverged"].fillna("").str.count("seed").tolist() == [0, 2]


def test_compare_draws_the_finals_only(small_data, store, quick_probes):
    train("optimizers", **options(epochs=2, optimizers="sgd", lrs="0.1,0.01"))
    frame, left_out = load_history(Selection())
    assert set(frame["validation"]) == {0}
    assert frame["run_id"].nunique() == 2
    assert sum("evaluated on validation images" in line for line in left_out) == 1
    # And of the grid alone the validation accuracies.
    compare(Selection(filter="params.validation != '0'"))
    (run,) = [run for run in stored_runs(store) if run.data.tags["recipe"] == "compare"]
    names = {file.path for file in store.list_artifacts(run.info.run_id)}
    assert {"validation_accuracy_over_epochs.png", "validation_loss_over_epochs.png"} <= names


def test_what_is_done_is_not_planned_again(small_data, store):
    whole = planned()
    first = whole.configs[:3]
    part = replace(whole, done={config: TrainingStatus("done", 2) for config in first})
    assert whole.left - part.left == pytest.approx(whole.launcher.seconds(first))


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_table(store, environment, tmp_path):
    command = eml_command("optimizers", *typed(), "--launcher", "local", "--jobs", "2")
    chance = random.Random(3)
    for lines in (8, 14, 30):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            stop_after = lines + chance.randrange(6)
            for number, _ in enumerate(process.stdout):
                if number == stop_after:
                    break
            os.killpg(process.pid, signal.SIGKILL)
    result = call(command)
    assert result.returncode == 0, result.stderr
    parents = [r for r in stored_runs(store) if r.data.tags.get("recipe") == "optimizers"]
    assert [p.info.status for p in parents] == ["FINISHED"]
    made = find.children(parents[0].info.run_id)
    for run_id in (found.run_id for found in made.values()):
        run = store.get_run(run_id)
        assert run.info.status == "FINISHED"
        steps = [point.step for point in store.get_metric_history(run_id, "train_loss")]
        assert steps == list(range(int(run.data.params["epochs"]) + 1))
    resumed = results(store)
    result = call([*command, "--resume", "false"])
    assert result.returncode == 0, result.stderr
    for one, other in zip(resumed, results(store), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_plan_shows_what_is_done_and_trains_nothing(store, eml, quick_probes):
    train("optimizers", **options(epochs=1, optimizers="sgd"))
    before = len(stored_runs(store))
    result = eml("plan", "optimizers", *typed(epochs=1))
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"sgd .* cifar_cnn .*: done, run \w{32}", result.stdout)) == 3
    assert len(re.findall(r"adam .* cifar_cnn .*: 1 epoch to do", result.stdout)) == 3
    assert "6 trainings of the search and 4 final ones: about" in result.stdout
    assert len(stored_runs(store)) == before


def test_a_plan_finds_a_mistake_before_any_training(small_data, store, monkeypatch):
    def broken(config, asked, code):
        raise ValueError("no such kernel")

    monkeypatch.setattr("eml.launchers.worker.probe", broken)
    with pytest.raises(UserError, match=r"sgd .*: ValueError: no such kernel"):
        plan(*arguments("optimizers", **options()))
    assert stored_runs(store) == []


class Measured(Inline):
    def measure(self, configs, threads, code):
        self.costs = {kind_of(config): Cost(0, 0.1, 0) for config in configs}


def planned(done=None, **changes) -> SearchPlan:
    """The plan of a search in which each image takes a tenth of a second."""
    chosen = RECIPES["optimizers"].options(**options(**changes))
    grid = RECIPES["optimizers"].configs(chosen)
    launching = LaunchOptions(launcher="inline")
    request = Request(RECIPES["optimizers"], grid, chosen, launching, Measured(launching), ())
    return search_plan(request, done or {})


def test_a_final_is_used_again_only_if_its_seconds_can_stand_beside_the_others(
    small_data, store, quick_probes, capsys, monkeypatch
):
    """The CNN of 3.3 with the same Config, from this machine and with as many threads."""
    one = {"epochs": 2, "subset": 100, "batch_size": 5, "device": "cpu"}
    train("cifar_cnn", **one, lr="0.01")
    (cnn,) = stored_runs(store)
    chosen = {**options(), "epochs": 2, "seeds": "1", "optimizers": "sgd", "lrs": "0.01,0.001"}
    monkeypatch.setattr(compare_optimizers, "choose", lambda configs, _: Choice(configs[0], [], []))
    train("optimizers", **chosen)
    assert f"already done: {cnn.info.run_name}, run {cnn.info.run_id}" in capsys.readouterr().out
    for tag in ("hardware", "trainings_at_once"):
        store.set_tag(cnn.info.run_id, tag, "7")
        assert planned(**chosen).finals_done == 0
        store.set_tag(cnn.info.run_id, tag, cnn.data.tags[tag])
        assert planned(**chosen).finals_done == 1


def test_expected_seconds_of_a_plan(small_data, store):
    whole = planned()
    images = 6 * 90 * 2 + 4 * 100 * 4
    trainings, epochs = 10, 6 * 2 + 4 * 4
    expected = 0.1 * images
    expected += trainings * cost.SECONDS_A_TRAINING + epochs * cost.SECONDS_AN_EPOCH
    assert whole.expected == pytest.approx(expected)
    assert "with 3 seeds, for verdicts: " in str(planned(seeds="1"))


def test_makespan():
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 1], 2) == 2
    assert makespan([], 2) == 0
