"""What varies, how it is said, and that a figure shows the numbers of its history."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from eml.compare import curves, diverged_epoch, in_common, summary, varying
from eml.figures import accuracy, losses
from eml.recipes import NumpyOptions, mlp_numpy
from eml.report import FIGURES, markdown, write_report


def run(run_id: str, accuracies: list[float], **options) -> pd.DataFrame:
    """The history of one run of mlp_numpy with these test accuracies."""
    (config,) = mlp_numpy(NumpyOptions(**options))
    rows = []
    for epoch, value in enumerate(accuracies):
        scores = dict.fromkeys(("train_loss", "test_loss"), math.nan if math.isnan(value) else 1.5)
        rows.append(
            {"run_id": run_id, **dataclasses.asdict(config), "epoch": epoch, **scores}
            | {"test_accuracy": value, "train_seconds": 2.0 * epoch}
        )
    return pd.DataFrame(rows)


NAN = math.nan
SWEEP = pd.concat(
    [
        run("a", [0.1, 0.9, 0.8], lr=1.0),
        run("b", [0.1, 0.3, 0.5], lr=0.001),
        run("c", [0.1, 0.2, NAN], lr=0.5),
    ]
)


def drawn(figure) -> dict[str, tuple[list, list]]:
    """x and y of the lines of a figure by their label; marks have none."""
    (axes,) = figure.axes
    return {
        line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_what_varies():
    assert varying(SWEEP) == ["learning_rate"]
    assert varying(run("a", [0.1])) == []
    seeds = pd.concat([run("a", [0.1], seed=1), run("b", [0.1], seed=2)])
    assert varying(seeds) == []
    assert varying(pd.concat([seeds, run("c", [0.1], batch_size=32)])) == ["batch_size"]


def test_curves_are_labelled_with_what_varies_alone():
    assert [curve.label for curve in curves(SWEEP)] == [
        "learning rate 1",
        "learning rate 0.001",
        "learning rate 0.5",
    ]
    (seeds,) = curves(pd.concat([run("a", [0.1], seed=1), run("b", [0.1], seed=2)]))
    assert len(seeds.runs) == 2


def test_in_common():
    assert in_common(SWEEP, ("model", "framework", "dataset", "learning_rate")) == [
        "MLP",
        "NumPy",
        "MNIST",
    ]


def test_summary():
    table = summary(SWEEP)
    assert list(table["learning_rate"]) == [1.0, 0.001, 0.5]
    assert list(table["best_test_accuracy"]) == [0.9, 0.5, 0.2]
    assert list(table["best_epoch"]) == [1, 2, 1]
    assert list(table["diverged"]) == ["", "", "epoch 2"]
    assert table["final_test_accuracy"].tolist()[:2] == [0.8, 0.5]
    assert math.isnan(table["final_test_accuracy"][2])
    assert "seed" not in table
    assert "seed" in summary(pd.concat([run("a", [0.1], seed=1), run("b", [0.1], seed=2)]))


def test_diverged_epoch():
    assert diverged_epoch(run("a", [0.1, NAN])) == 1
    assert diverged_epoch(run("a", [0.1, 0.2])) is None


def test_accuracy_figure_shows_the_history():
    lines = drawn(accuracy(SWEEP, x="epoch"))
    assert lines == {
        "learning rate 1: 80.00% at the end": ([0, 1, 2], [0.1, 0.9, 0.8]),
        "learning rate 0.001: 50.00% at the end": ([0, 1, 2], [0.1, 0.3, 0.5]),
        "learning rate 0.5 (diverged in epoch 2)": ([0, 1], [0.1, 0.2]),
    }
    (axes,) = accuracy(SWEEP, x="epoch").axes
    assert axes.get_title(loc="left") == "MLP in NumPy on MNIST: test accuracy"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "test accuracy")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 2), (0, 1))


def test_accuracy_over_time():
    (line,) = accuracy(run("a", [0.1, 0.9]), x="train_seconds").axes[0].lines
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 2], [0.1, 0.9])


def test_seeds_are_a_mean_with_a_band():
    history = pd.concat(
        [run("a", [0.1, 0.5, 0.9], seed=1), run("b", [0.2, 0.7], seed=2)]  # one is behind
    )
    figure = accuracy(history, x="epoch")
    ((label, (xs, ys)),) = drawn(figure).items()
    assert "mean of 2 seeds" in label
    assert xs == [0, 1]
    assert ys == pytest.approx([0.15, 0.6])
    (band,) = figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    assert {(0, 0.1), (0, 0.2), (1, 0.5), (1, 0.7)} <= {tuple(corner) for corner in corners}


def test_a_seed_that_diverged_ends_the_mean():
    history = pd.concat([run("a", [0.1, 0.5], seed=1), run("b", [0.2, NAN], seed=2)])
    ((label, (xs, _)),) = drawn(accuracy(history, x="epoch")).items()
    assert "diverged in epoch 1" in label
    assert xs == [0]


def test_a_run_that_diverged_at_once_is_shown_as_such():
    assert drawn(accuracy(run("a", [NAN]), x="epoch")) == {" (diverged in epoch 0)": ([], [])}


def test_losses_figure():
    lines = drawn(losses(run("a", [0.1, 0.9])))
    assert lines == {"train loss": ([0, 1], [1.5, 1.5]), "test loss": ([0, 1], [1.5, 1.5])}
    (axes,) = losses(run("a", [0.1, 0.9])).axes
    assert axes.get_xlim() == (0, 1)
    assert axes.get_ylim()[0] == 0 < 1.5 < axes.get_ylim()[1]


@pytest.mark.parametrize("recipe", FIGURES)
def test_report_writes_the_recipes_figures_and_the_summary(recipe, tmp_path):
    text = write_report(recipe, run("a", [0.1, 0.9]), tmp_path)
    names = {f"{name}.png" for name in FIGURES[recipe]}
    assert {file.name for file in tmp_path.iterdir()} == names | {"summary.csv", "summary.md"}
    assert (tmp_path / "summary.md").read_text() == text
    assert pd.read_csv(tmp_path / "summary.csv")["best_test_accuracy"].tolist() == [0.9]


def test_markdown():
    table = pd.DataFrame({"name": ["a", "long name"], "value": [0.98765, np.nan]})
    assert markdown(table) == (
        "| name      | value  |\n"
        "| --------- | ------ |\n"
        "| a         | 0.9877 |\n"
        "| long name |        |\n"
    )
