"""The comparison of optimizers as a whole, on small data: protocol, plan, budget, resuming."""

import os
import random
import re
import signal
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from eml.analysis.options import CompareOptions, Selection
from eml.errors import UserError
from eml.launchers.options import LaunchOptions
from eml.launchers.worker import Inline
from eml.recipes import RECIPES
from eml.sweeps.launch import plan
from eml.sweeps.request import Request
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


@pytest.mark.slow
def test_the_protocol(small_data, store, quick_probes, capsys):
    train("optimizers", **options())
    parent, *children = stored_runs(store)
    assert parent.info.status == "FINISHED"
    on_validation = [c for c in children if c.data.params["validation"] != "0"]
    winners = [c for c in children if c.data.params["validation"] == "0"]
    for run in on_validation:  # choosing never saw a test image
        assert run.data.params["validation"] == "10"
        assert (run.data.params["train_images"], run.data.params["validation_images"]) == (
            "90",
            "10",
        )
        assert "test_accuracy" not in run.data.metrics
        assert run.data.params["seed"] == "1"
    assert sorted(w.data.params["seed"] for w in winners) == ["1", "1", "2", "2"]
    for run in winners:
        assert run.data.params["train_images"] == "100"
        assert "validation_accuracy" not in run.data.metrics
        assert "pruned_after" not in run.data.tags
        assert len(store.get_metric_history(run.info.run_id, "test_accuracy")) == 5
    # The winner of each optimizer is within the error of 10 images of the highest accuracy in the
    # end: 1.0 and 0.8 are tied, 0.7 is not.
    for optimizer in ("sgd", "adam"):
        ended = [
            (run.data.metrics["final_validation_accuracy"], run.data.params["learning_rate"])
            for run in on_validation
            if run.data.params["optimizer"] == optimizer and run.info.status == "FINISHED"
        ]
        (rate,) = {
            w.data.params["learning_rate"]
            for w in winners
            if w.data.params["optimizer"] == optimizer
        }
        assert rate in [r for accuracy, r in ended if accuracy > max(ended)[0] - 0.28]
    pruned = [run for run in on_validation if "pruned_after" in run.data.tags]
    assert pruned
    for run in pruned:
        assert run.info.status == "KILLED"
        last = store.get_metric_history(run.info.run_id, "train_loss")[-1].step
        assert int(run.data.tags["pruned_after"]) == last == 2
    summary, grid = results(store)
    assert len(summary) == 2
    assert summary["n"].tolist() == [2, 2]
    assert grid["outcome"].value_counts()["chosen"] == 2
    assert len(grid) == len(on_validation)
    shown = capsys.readouterr().out
    assert "chosen" in shown
    assert re.search(r"took \d+ (s|min); the plan expected \d+ (s|min)", shown)
    # A second time nothing is trained.
    before = {run.info.run_id for run in stored_runs(store)}
    train("optimizers", **options())
    new = [run for run in stored_runs(store) if run.info.run_id not in before]
    assert [run.data.tags["recipe"] for run in new] == ["optimizers"]
    for one, other in zip((summary, grid), results(store), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_compare_draws_the_winners_only(small_data, store, quick_probes):
    train("optimizers", **options(epochs=2, extend=0, optimizers="sgd", lrs="0.1,0.01"))
    frame, left_out = load_history(Selection())
    assert set(frame["validation"]) == {0}
    assert frame["run_id"].nunique() == 2
    assert sum("evaluated on validation images" in line for line in left_out) == 1
    # And of the grid alone the validation accuracies.
    compare(CompareOptions(filter="params.validation != '0'", x="epoch"))
    (run,) = [run for run in stored_runs(store) if run.data.tags["recipe"] == "compare"]
    names = {file.path for file in store.list_artifacts(run.info.run_id)}
    assert {"validation_accuracy_over_epochs.png", "validation_loss_over_epochs.png"} <= names
    with pytest.raises(UserError, match="validation_loss: none of these runs has this metric"):
        compare(CompareOptions(recipe="optimizers", metric="validation_loss"))


@pytest.mark.slow
def test_what_was_finished_before_decides_nothing(small_data, store, quick_probes):
    train("optimizers", **options(prune="none", extend=0))
    finished = {run.info.run_id for run in stored_runs(store)}
    train("optimizers", **options(extend=0))
    assert all(store.get_run(run_id).info.status == "FINISHED" for run_id in finished)
    first = results(store)
    assert first[1]["outcome"].str.startswith("pruned").any()
    for run_id in finished:
        store.delete_run(run_id)
    train("optimizers", **options(extend=0))
    for one, other in zip(first, results(store), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_what_is_done_counts_for_the_budget(small_data, store):
    whole, _ = planned(prune="none", extend=0)
    first = whole.configs[:3]
    part = replace(whole, done={config: TrainingStatus("done", 4) for config in first})
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
        assert run.info.status in ("FINISHED", "KILLED")
        steps = [point.step for point in store.get_metric_history(run_id, "train_loss")]
        assert steps == list(range(int(run.data.tags.get("pruned_after", 4)) + 1))
    resumed = results(store)
    result = call([*command, "--resume", "false"])
    assert result.returncode == 0, result.stderr
    for one, other in zip(resumed, results(store), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_plan_shows_what_is_done_and_trains_nothing(store, eml, quick_probes):
    train("optimizers", **options(epochs=1, extend=0, optimizers="sgd"))
    before = len(stored_runs(store))
    result = eml("plan", "optimizers", *typed(epochs=1, extend=0))
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"sgd .* cifar_cnn .*: done, run \w{32}", result.stdout)) == 3
    assert len(re.findall(r"adam .* cifar_cnn .*: 1 epochs to do", result.stdout)) == 3
    assert "6 trainings on the grid and 4 of winners: about" in result.stdout
    assert len(stored_runs(store)) == before


def test_a_plan_finds_a_mistake_before_any_training(small_data, store, monkeypatch):
    def broken(config, asked):
        raise ValueError("no such kernel")

    monkeypatch.setattr("eml.launchers.worker.probe", broken)
    with pytest.raises(UserError, match=r"sgd .*: ValueError: no such kernel"):
        plan(*arguments("optimizers", **options()))
    assert stored_runs(store) == []


class Measured(Inline):
    def measure(self, configs, threads):
        self.costs = {kind_of(config): Cost(0, 0.1, 0) for config in configs}


def planned(done=None, **changes) -> tuple[SearchPlan, list[str]]:
    """The plan of a search in which each image takes a tenth of a second."""
    chosen = RECIPES["optimizers"].options(**options(**changes))
    grid = RECIPES["optimizers"].configs(chosen)
    launching = LaunchOptions(launcher="inline")
    request = Request(RECIPES["optimizers"], grid, chosen, launching, Measured(launching), ())
    return search_plan(request, done or {})


def test_the_budget_leaves_out_steps_then_seeds(small_data, store):
    whole, left_out = planned(seeds="1,2,3")
    assert (whole.seeds, whole.extend, left_out) == ([1, 2, 3], 2, [])
    minutes = whole.expected / 60
    found = {}
    for share in (1.01, 0.95, 0.75, 0.6):
        fitting, left_out = planned(seeds="1,2,3", budget_minutes=share * minutes)
        assert fitting.expected <= share * minutes * 60
        found[share] = (fitting.seeds, fitting.extend, len(left_out))
    assert found == {
        1.01: ([1, 2, 3], 2, 0),
        0.95: ([1, 2, 3], 0, 1),
        0.75: ([1, 2], 0, 2),
        0.6: ([1], 0, 3),
    }
    with pytest.raises(
        UserError, match=r"budget_minutes=0.1: the smallest search, with one seed, takes about"
    ):
        planned(budget_minutes=0.1)


def test_expected_seconds_of_a_plan(small_data, store):
    whole, _ = planned(prune="none", extend=0)
    images = 6 * 90 + 4 * 100
    trainings, epochs = 10, 10 * 4
    expected = 0.1 * images * 4
    expected += trainings * cost.SECONDS_A_TRAINING + epochs * cost.SECONDS_AN_EPOCH
    assert whole.expected == pytest.approx(expected)


def test_makespan():
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([1, 1, 1], 2) == 2
    assert makespan([], 2) == 0
