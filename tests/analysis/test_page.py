"""The page of a comparison holds its figures with the values of their points, and its tables."""

import json
import re
from functools import partial

import pytest

from eml.analysis.comparison import Comparison
from eml.analysis.figures import over
from eml.analysis.report import mark, write_page, write_report
from eml.tracking.publish import PAGE
from support.histories import NAN, run, together

SEEDS = together(
    run("a", [0.1, 0.5, 0.9], lr=1.0, seed=1),
    run("b", [0.1, 0.3, 0.7], lr=1.0, seed=2),
    run("c", [0.1, 0.3, NAN], lr=0.5),
)


def test_the_marks_are_the_points_of_the_figure():
    figure = over(Comparison(SEEDS), x="epoch")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    half, one = json.loads(mark(figure)).values()
    assert half["label"] == "learning rate 0.5 (diverged in epoch 2)"
    assert one["label"] == "learning rate 1: 80.00% at the end (n = 2)"
    assert [text for *_, text in one["points"][:3]] == [
        "epoch 0: 10%",
        "epoch 1: 40%",
        "epoch 2: 80%",
    ]
    # The left and lower ends of the axes, in points from the upper left corner of the figure.
    axes = figure.axes[0]
    box = axes.get_window_extent()
    x, y, _ = one["points"][0]
    height = figure.bbox.height
    assert x == pytest.approx(72 / figure.dpi * box.x0, abs=0.1)
    low, high = axes.get_ylim()
    up = box.y0 + (0.1 - low) / (high - low) * box.height
    assert y == pytest.approx(72 / figure.dpi * (height - up), abs=0.1)


def test_a_page_has_the_figures_with_their_curves_and_the_tables(tmp_path):
    figures = {"test_accuracy_over_epochs": partial(over, x="epoch")}
    report = write_report(figures, Comparison(SEEDS), tmp_path)
    write_page(tmp_path / PAGE, "<b>", report, "<?xml?><svg id='search'></svg>")
    page = (tmp_path / PAGE).read_text()
    assert "<title>&lt;b&gt;</title>" in page
    assert page.count("<svg") == len(list(tmp_path.glob("*.svg"))) + 1 == 3
    assert page.index("curve1-0-") < page.index("chance")  # the curves before the sensitivity
    # The best curve, the figures, one small table with the best first, the rest folded.
    best, table, rest = map(page.index, ("<strong>learning rate 1</strong>", "<table", "<details"))
    assert best < page.index("<svg") < page.rindex("<svg") < table < rest
    small = re.findall("<t[hd]>(.*?)</t[hd]>", page[table:rest])
    assert small[:2] == ["curve", "final test accuracy"]
    assert small.index("learning rate 1") < small.index("learning rate 0.5")
    assert page[rest:].count("<table") == 1
    for part in ("key0-name", "key0-line", "curve0-0-", "curve1-0-"):
        assert f'id="{part}' in page
    # Nothing is loaded from anywhere.
    assert not re.search(r"(src|href)=\"(?!#)", page.replace('xlink:href="#', ""))


def test_a_name_in_the_store_cannot_become_a_part_of_the_page(tmp_path):
    evil = run("a", [0.1, 0.5], optimizer="sgd")
    evil["optimizer"] = "<script>alert(1)</script>"
    other = run("b", [0.1, 0.5], optimizer="adam")
    figures = {"test_accuracy_over_epochs": partial(over, x="epoch")}
    report = write_report(figures, Comparison(together(evil, other)), tmp_path)
    write_page(tmp_path / PAGE, "t", report)
    assert "<script>alert" not in (tmp_path / PAGE).read_text()
