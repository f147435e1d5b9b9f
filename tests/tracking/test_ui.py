"""What MLflow's UI shows of a run: names, notes, saved views, scores to sort by.

tests/test_browser.py looks at the pages themselves.
"""

from eml.analysis.options import Selection
from eml.tracking import ui
from eml.tracking.compare import compare
from support.commands import add_training, run_here, stored_runs


def test_a_sweep_has_the_best_score_and_says_what_it_is_about(small_data, store):
    assert run_here("lr_sweep", "--epochs", "1", "--lrs", "0.1,0.001,1,0.5,0.01").returncode == 0
    parent, *children = stored_runs(store)
    assert parent.info.run_name == "lr_sweep epochs=1"
    assert "Question: how does the learning rate" in parent.data.tags["mlflow.note.content"]
    best = max(child.data.metrics["final_test_accuracy"] for child in children)
    assert parent.data.metrics == {"final_test_accuracy": best}
    typed = "eml lr_sweep --launcher inline --epochs 1 --lrs 0.1,0.001,1,0.5,0.01"
    assert {run.data.tags["command"] for run in (parent, *children)} == {typed}


def test_a_comparison_is_named_by_what_it_compares(store, png_only):
    for seed in (1, 2):
        add_training(store, "mlp_numpy", seed=seed)
    compare(Selection(recipe="mlp_numpy"))
    assert stored_runs(store)[-1].info.run_name == "Comparison of 2 runs of mlp_numpy"


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
