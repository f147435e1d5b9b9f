"""A figure shows the numbers of its history, and says what it cannot show."""

import numpy as np
import pytest

from eml.analysis import figures
from eml.analysis.comparison import Comparison
from eml.analysis.figures import sensitivity
from eml.analysis.report import on_rates, write_grid, write_report
from eml.analysis.summary import Outcomes, by_rate, summary
from eml.recipes import RECIPES
from support.histories import NAN, SWEEP, figures_of, run, together


def over(history, x="epoch", metric="test_accuracy", **about):
    return figures.over(Comparison(history, **about), x, metric)


def lines(figure) -> dict[str, tuple[list, list]]:
    """x and y of what the legend of a figure names."""
    (legend,) = figure.legends
    axes = figure.axes[0]
    drawn = {line.get_label(): line for line in axes.lines}
    return {
        text.get_text(): tuple(values.tolist() for values in drawn[text.get_text()].get_data())
        for text in legend.get_texts()
    }


def rounded(of: dict[str, tuple[list, list]]) -> dict[str, tuple[list, list]]:
    """Points of several curves are moved apart by some per cent."""
    return {name: (np.round(xs, 3).tolist(), ys) for name, (xs, ys) in of.items()}


def test_accuracy_over_epochs():
    figure = over(SWEEP)
    assert lines(figure) == {
        "learning rate 0.001: 50.00% at the end": ([0, 1, 2], [0.1, 0.3, 0.5]),
        "learning rate 0.5 (diverged in epoch 2)": ([0, 1], [0.1, 0.2]),
        "learning rate 1: 80.00% at the end": ([0, 1, 2], [0.1, 0.9, 0.8]),
    }
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "MLP in NumPy on MNIST: test accuracy"
    exercise = over(SWEEP, exercise="2.2 Learning rates").axes[0]
    assert exercise.get_title(loc="left").startswith("2.2 Learning rates. MLP in NumPy on MNIST")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "test accuracy")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 2), (0, 1))
    assert over(run("a", [0.1, 0.35])).axes[0].get_ylim() == (0, 0.4)
    assert lines(over(run("a", [0.1, NAN]))) == {"(diverged in epoch 1)": ([0], [0.1])}


def test_loss_over_time():
    figure = over(run("a", [0.1, 0.9]), x="train_seconds", metric="test_loss")
    (axes,) = figure.axes
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0, 2]
    assert line.get_ydata().tolist() == pytest.approx([2.2, 1.4], abs=1e-3)
    assert axes.get_xlabel() == "training time (s)"
    assert axes.get_ylabel() == "test loss (cross-entropy, nats)"
    assert axes.get_ylim()[0] == 0
    assert lines(figure).keys() == {"test loss"}
    history = run("a", [0.1, 0.9]).assign(train_loss=[2.3, 0.5], test_loss=[2.4, 0.7])
    assert lines(figures.losses(Comparison(history))) == {
        "train loss (mean during the epoch)": ([0, 1], [2.3, 0.5]),
        "test loss": ([0, 1], [2.4, 0.7]),
    }


def test_seeds_are_a_mean_with_a_band():
    history = together(run("a", [0.1, 0.5], seed=1), run("b", [0.2, 0.7], seed=2))
    figure = over(history)
    ((label, (xs, ys)),) = lines(figure).items()
    assert label == "test accuracy: 60.00% at the end (n = 2)"
    assert xs == [0, 1]
    assert ys == pytest.approx([0.15, 0.6])
    (band,) = figure.axes[0].collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(0, 0.1), (0, 0.2), (1, 0.5), (1, 0.7)} <= corners
    assert "bands: their range" in figure.axes[0].texts[0].get_text()


def test_every_seed_is_drawn_as_far_as_it_goes():
    history = together(run("a", [0.1, 0.5, 0.9], seed=1), run("b", [0.2, 0.7], seed=2, epochs=2))
    figure = over(history)
    ((label, (xs, ys)),) = lines(figure).items()
    assert label == ("test accuracy: 90.00% at the end (n = 2) (1 of 2 unfinished, epoch 1 of 2)")
    assert (xs, ys) == ([0, 1, 2], pytest.approx([0.15, 0.6, 0.9]))
    assert summary(Comparison(history))[0].final_accuracy == 0.9


def test_a_seed_that_diverged_counts_as_chance_as_in_the_table():
    history = together(run("a", [0.1, 0.5, 0.6], seed=1), run("b", [0.2, NAN], seed=2, epochs=2))
    ((label, (xs, ys)),) = lines(over(history)).items()
    assert label == "test accuracy: 35.00% at the end (n = 2) (1 of 2 diverged in epoch 1)"
    assert (xs, ys) == ([0, 1, 2], pytest.approx([0.15, 0.3, 0.35]))
    assert summary(Comparison(history))[0].final_accuracy == pytest.approx(0.35)
    # A loss has no value that would stand for divergence: the mean is of those that go on.
    ((_, (xs, ys)),) = lines(over(history, x="epoch", metric="test_loss")).items()
    assert ys[-1] == pytest.approx(1.7, abs=1e-3)


def test_what_else_differs_is_on_the_figure():
    other = run("d", [0.1, 0.4, 0.4], lr=0.2, batch_size=32, tags={"hardware": "b"})
    caption = over(together(SWEEP, other)).axes[0].texts[0].get_text()
    assert caption.endswith("also different: batch size, hardware")


def test_what_cannot_be_drawn_is_in_the_legend():
    timeless = run("b", [0.1, 0.6], lr=0.2).assign(train_seconds=NAN)
    both = together(run("a", [0.1, 0.5], lr=0.3), timeless)
    assert lines(over(both, x="train_seconds")) == {
        "learning rate 0.2 (nothing to draw)": ([], []),
        "learning rate 0.3: 50.00% at the end": ([0, 2], [0.1, 0.5]),
    }


def test_curves_that_end_close_are_enlarged():
    last = {1: 0.985, 0.5: 0.984, 0.1: 0.5}
    close = together(*(run(f"{lr}", [0.1, 0.9, end], lr=lr) for lr, end in last.items()))
    whole, ends = over(close).axes
    assert whole.get_ylim() == (0, 1)
    assert 0.98 < ends.get_ylim()[0] < 0.984 < 0.985 < ends.get_ylim()[1] < 0.99
    far = together(run("a", [0.1, 0.9], lr=1), run("b", [0.1, 0.5], lr=0.1))
    assert len(over(far).axes) == 1


def test_what_there_is_nothing_to_compare_with_is_on_the_figure(tmp_path):
    alone = Comparison(run("a", [0.1, 0.5]), varies="device_type")
    assert "CPU alone: nothing to compare it with" in write_report({}, alone, tmp_path).warnings
    caption = figures.over(alone, "epoch").axes[0].texts[0].get_text()
    assert caption.endswith("\nCPU alone: nothing to compare it with")


RATES = together(
    run("a", [0.1, 0.4, 0.5], optimizer="sgd", lr="0.1"),
    run("b", [0.1, 0.6, 0.7], optimizer="sgd", lr="0.01"),
    run("c", [0.1, 0.5, 0.6], optimizer="sgd", lr="0.001"),
    run("d", [0.1, 0.9, NAN], optimizer="adam", lr="0.1"),
    run("e", [0.1, 0.3, 0.4], optimizer="adam", lr="0.01"),
    run("f", [0.1, 0.5, 0.6], optimizer="adam", lr="0.01", seed=2),
    run("g", [0.1, 0.2, 0.3], optimizer="rmsprop"),
    run("h", [0.1, 0.95], optimizer="sgd", lr="0.1", epochs=2, seed=2),  # unfinished
)


def test_sensitivity_to_the_learning_rate():
    rates = by_rate(Comparison(RATES))
    assert rates == {
        "Adam": {0.01: 0.5, 0.1: 0.1},  # a rate that diverges has failed
        "SGD": {0.001: 0.6, 0.01: 0.7, 0.1: 0.5},
    }
    figure = sensitivity(Comparison(RATES))
    assert rounded(lines(figure))["SGD"] == ([0.001, 0.01, 0.102], [0.6, 0.7, 0.5])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.texts[-1].get_text()) == ("log", "chance")


def test_other_differences_are_not_mixed_into_a_line():
    small = RATES[RATES["run_id"].isin(["a", "b"])].assign(batch_size=32)
    small["run_id"] += " again"
    assert set(by_rate(Comparison(together(RATES, small)))) == {
        "Adam, batch size 64",
        "SGD, batch size 32",
        "SGD, batch size 64",
    }


def test_an_optimizer_with_fewer_rates_is_called_undertuned():
    held_out = [
        run(f"{name}{rate}", [0.1, 0.5], optimizer=name, lr=rate, validation=100)
        for name, rates in {"adam": (0.01, 0.001), "sgd": (0.1,)}.items()
        for rate in rates
    ]
    line = "undertuned? SGD was tried at 1 learning rate, another at 2"
    assert on_rates(Comparison(together(*held_out))) == [line]
    # Of two rates that were trained to the end, one may be there because the other diverged.
    finals = together(*(one.assign(validation=0, test_accuracy=0.5) for one in held_out))
    assert not on_rates(Comparison(finals))


def test_equal_rates_have_no_best_one():
    assert not on_rates(Comparison(together(*(run(f"{r}", [0.1, 0.5], lr=r) for r in (1.0, 0.5)))))


def test_a_best_rate_at_the_edge_is_said():
    assert on_rates(Comparison(RATES)) == [
        "the best learning rate of Adam, 0.01, is at the edge of those tried: "
        "try 0.001 and 0.0001 too"
    ]


def test_the_grid_says_its_remarks_and_the_edges(tmp_path):
    held_out = [
        run(f"{rate}", [0.1, 0.5 + rate], optimizer="sgd", lr=rate, validation=100)
        for rate in (0.1, 0.01)
    ]
    text = write_grid(Comparison(together(*held_out)), Outcomes(), ["tied"], tmp_path)
    edge = "the best learning rate of SGD, 0.1, is at the edge of those tried: try 1 and 10 too"
    assert text.endswith(f"- tied\n- {edge}\n")
    assert (tmp_path / "grid.md").read_text() == text
    assert (tmp_path / "grid.png").exists()


def test_advice_is_bounded_by_the_recipes_limits():
    rates = [1, 0.5, 0.1, 0.05, 0.01, 0.001]
    for sign, kept, end in ((1, 0, "allowed"), (-1, 0, "allowed"), (1, 1, "tried: try 1 too")):
        runs = [run(str(r), [0.1, 0.5 + sign * 0.1 * r], lr=r) for r in rates[kept:]]
        (line,) = on_rates(Comparison(together(*runs), rates=RECIPES["lr_sweep"].rates))
        assert line.endswith(end)


def test_report_writes_the_recipes_figures_and_the_summary(tmp_path):
    recipe = "mlp_numpy"
    made = write_report(figures_of(recipe), Comparison(run("a", [0.1, 0.9])), tmp_path)
    names = {f"{name}.{kind}" for name in figures_of(recipe) for kind in ("png", "svg")}
    tables = {"summary.csv", "verdicts.csv", "summary.md"}
    assert {file.name for file in tmp_path.iterdir()} == names | tables
    assert (tmp_path / "summary.md").read_text() == made.rest
    (warning,) = made.warnings
    assert "one seed, so no spread" in warning
    assert made.brief[0]["final test accuracy"] == "90.00% (89.4 to 90.6)"


def test_files_are_the_same_bytes_for_the_same_history(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_report(figures_of("lr_sweep"), Comparison(SWEEP), tmp_path / folder)
    files = sorted((tmp_path / "one").iterdir())
    assert len(files) == 7
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
