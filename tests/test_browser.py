"""What people look at: MLflow's UI over a store with real runs, in Chromium."""

from pathlib import Path

import mlflow
import pytest

from eml.tracking import ui
from support import servers
from support.commands import run_here, stored_runs

EXPECT = 30_000  # milliseconds until a page must show what it is to show


@pytest.fixture
def look(browser, small_data, store, tmp_path):
    """Opens an address of the UI, below that of the server, and returns the page.

    The store has a sweep with two seeds, a single training, and a comparison of the sweep.
    """
    for arguments in (
        ("lr_sweep", "--epochs", "2", "--lrs", "0.1,0.5,1,0.01,0.001", "--seeds", "1,2"),
        ("mlp_numpy", "--epochs", "2"),
        ("compare", "--recipe", "lr_sweep"),
    ):
        result = run_here(*arguments)
        assert result.returncode == 0, result.stderr
    with servers.mlflow_server(mlflow.get_tracking_uri(), tmp_path / "served") as address:
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(EXPECT)

        def look(below: str):
            page.goto("about:blank")  # else the UI stays, and changes its address alone
            page.goto(f"{address}/{below}")
            return page

        yield look


def is_of_runs(tag: str) -> bool:
    return tag.startswith(ui.VIEW) and tag != ui.VIEW + ui.ALL_TRAININGS


def of_recipe(store, recipe: str):
    return [run for run in stored_runs(store) if run.data.tags["recipe"] == recipe][-1]


def test_people_find_what_they_look_for(look, store):
    sweep, comparison = of_recipe(store, "lr_sweep"), of_recipe(store, "compare")
    experiment = sweep.info.experiment_id

    # The list of runs: readable names, and the note of the experiment.
    page = look(f"#/experiments/{experiment}/runs?{ui.TRAINING_MODE}")
    page.get_by_role("link", name="lr_sweep epochs=2 seeds=2").wait_for()
    page.get_by_text("the curves of all").wait_for()

    # The charts of the sweep: accuracy first, over the epochs, a curve for each rate.
    view = next(tag for tag in store.get_experiment(experiment).tags if is_of_runs(tag))
    page = look(ui.charts(experiment, view.removeprefix(ui.VIEW)))
    titles = page.locator("[data-testid='experiment-view-compare-runs-card-drag-handle']")
    titles.first.wait_for()
    page.get_by_text("Group: 0.001").wait_for()
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
    curves = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace")
    assert curves.count() >= 5

    # The view of all trainings has nested ones, too, and a chart over the training seconds.
    page = look(ui.charts(experiment))
    page.locator(".js-plotly-plot").get_by_text("train_seconds").first.wait_for()
    page.get_by_role("link", name="mlp sgd lr=0.5 seed=2").wait_for()

    # The page of the sweep: its note links its trainings, the best first.
    page = look(ui.page(experiment, sweep.info.run_id))
    page.get_by_text("Show more").first.click()
    page.get_by_text("Question: how does the learning rate").wait_for()
    best = page.get_by_role("link", name="sgd lr=").last
    assert "/runs/" in best.get_attribute("href")

    # The page of the comparison, in the viewer of artifacts.
    page = look(ui.page(experiment, comparison.info.run_id, "/artifacts/compare.html"))
    inside = page.frame_locator("iframe")
    inside.locator("figure svg").first.wait_for()

    file = Path(store.download_artifacts(comparison.info.run_id, "compare.html"))
    page.goto(file.as_uri())
    answers_the_mouse(page)


def is_off(curve) -> bool:
    return curve.evaluate("part => getComputedStyle(part).display == 'none'")


def answers_the_mouse(page) -> None:
    """The page of a comparison shows values, switches curves off and on, and sorts its table."""
    assert not page.locator("#tip").is_visible()
    figure = page.locator("figure svg").first
    # A point is where the script says it is.
    x, y, text = page.evaluate(
        """() => {
            const svg = document.querySelector("figure svg");
            const stored = svg.getElementsByTagName("dc:description")[0].textContent;
            const [x, y, text] = JSON.parse(stored)["0"].points[1];
            const there = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
            return [there.x, there.y, text];
        }"""
    )
    page.evaluate("(y) => window.scrollTo(0, y - 300)", y)
    scrolled = page.evaluate("() => window.scrollY")
    page.mouse.move(x, y - scrolled)
    page.locator("#tip").wait_for()
    assert page.locator("#tip").inner_text().endswith(text)

    curve, name = figure.locator("[id^='curve0-']").first, figure.locator("[id='key0-name']")
    assert not is_off(curve)
    name.scroll_into_view_if_needed()
    box = name.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    assert is_off(curve)
    page.mouse.click(*middle)
    assert not is_off(curve)

    table = page.locator("table").first
    for name, best_is_lowest in (("s/epoch", True), ("final test accuracy", False)):
        head = table.get_by_role("columnheader", name=name)
        column = head.evaluate("head => head.cellIndex")
        for ascending in (best_is_lowest, not best_is_lowest):
            head.click()
            cells = table.locator("tbody tr").evaluate_all(
                "(rows, i) => rows.map((row) => parseFloat(row.cells[i].textContent))", column
            )
            assert cells == sorted(cells, reverse=not ascending)
