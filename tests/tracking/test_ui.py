"""What MLflow's UI shows of a run: names, notes with links, saved views, scores to sort by.

tests/test_browser.py looks at the pages themselves.
"""

import mlflow

from eml.analysis.comparison import Comparison
from eml.analysis.options import CompareOptions
from eml.tracking import publish, ui
from eml.tracking.compare import compare
from support.commands import add_training, run_here, stored_runs
from support.histories import NAN, run, together

NOTE = "mlflow.note.content"


def test_a_result_is_a_line_with_a_link_the_best_first():
    history = together(
        run("a", [0.1, 0.5], lr=0.1),
        run("b", [0.1, 0.9], lr=0.2, seconds=1234.5),
        run("c", [0.1, NAN], lr=0.3),
        run("d", [0.1, 0.95], lr=0.4, epochs=3),
    )
    history["run_name"] = history["run_id"].map("the [run] {}".format)
    link = "- [the (run) {0}](#/experiments/1/runs/{0}?workflowType=machine_learning)".format
    assert publish.results(Comparison(history)) == [
        f"{link('b')}: 90.00% after epoch 1, 1,234 s of training",
        f"{link('a')}: 50.00% after epoch 1, 2 s of training",
        f"{link('c')}: diverged in epoch 1, 2 s of training",
        f"{link('d')}: 95.00% after epoch 1 of 3, 2 s of training",
    ]


def test_a_sweep_lists_its_trainings_and_has_the_best_score(small_data, store):
    assert run_here("lr_sweep", "--epochs", "1", "--lrs", "0.1,0.001,1,0.5,0.01").returncode == 0
    parent, *children = stored_runs(store)
    assert parent.info.run_name == "lr_sweep epochs=1"
    note = parent.data.tags[NOTE]
    listed = note.splitlines()[:5]
    assert all(any(child.info.run_id in line for line in listed) for child in children)
    assert "Command: `eml lr_sweep --launcher inline --epochs 1 --lrs 0.1,0.001,1,0.5,0.01`" in note
    assert "Question: how does the learning rate" in note
    best = max(child.data.metrics["final_test_accuracy"] for child in children)
    assert parent.data.metrics == {"final_test_accuracy": best}
    assert f"{best:.2%}" in listed[0]


def test_a_comparison_is_named_by_what_it_compares_and_lists_it(store, png_only):
    first, second = (add_training(store, "mlp_numpy", seed=seed) for seed in (1, 2))
    compare(CompareOptions(recipe="mlp_numpy"))
    made = stored_runs(store)[-1]
    assert made.info.run_name == "compare 2 runs of mlp_numpy"
    note = made.data.tags[NOTE]
    assert first in note
    assert second in note
    assert "|" not in note  # a table, which MLflow's notes do not render


def test_a_note_has_room_for_some_of_many_results(store):
    lines = [f"- result {n} " + "x" * 90 for n in range(100)]
    with mlflow.start_run() as active:
        publish.describe(lines, "about " * 100)
    note = store.get_run(active.info.run_id).data.tags[NOTE]
    assert len(note) <= ui.LONGEST_TAG
    listed = [line for line in note.splitlines() if line.startswith("- result")]
    assert f"- and {100 - len(listed)} more: summary.csv among the artifacts" in note
    assert note.endswith("about ")


def test_the_same_runs_have_one_view_and_too_many_that_of_all(store):
    experiment = store.get_experiment_by_name("test").experiment_id

    def view(*ids):
        return ui.view_of(experiment, "a sweep", ids, ["optimizer"], "test")

    one, other, third = ("a" * 32, "b" * 32, "c" * 32)
    ui.introduce(experiment)
    assert view(one, other) == view(other, one) != view(one, other, third)
    many = [f"{n * 7919**8 % 16**32:032x}" for n in range(1, 400)]
    assert view(*many) == ui.charts(experiment)
    views = [tag for tag in store.get_experiment(experiment).tags if tag.startswith(ui.VIEW)]
    assert len(views) == 3  # with that of all
