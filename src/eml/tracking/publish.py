"""Makes the figures and tables of runs from the store, logs them, and says where they are."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlflow.entities import RunInfo

from eml.analysis.comparison import Comparison
from eml.analysis.curves import CHANCE
from eml.analysis.labels import LAST, MEDIAN, counted, words
from eml.analysis.summary import Outcomes
from eml.recipes.recipe import Recipe
from eml.tracking import log, store, ui
from eml.tracking.calls import is_server, uri
from eml.tracking.find import Others
from eml.tracking.history import history_of
from eml.tracking.runs import active_run

if TYPE_CHECKING:
    from eml.analysis.figures import Draw

PAGE = "compare.html"  # the artifact with the figures and tables for the browser
MOST_ROWS = 6  # of a table on the terminal


def report_grid(
    recipe: Recipe,
    run_ids: Sequence[str],
    outcomes: Outcomes,
    remarks: Sequence[str],
    others: Others = (),
) -> str:
    """Print which learning rates were tried and chosen, and log it with a figure in `grid`.

    Returns the figure as SVG; "" if there is none.
    """
    from eml.analysis.report import write_grid

    comparison = Comparison(history_of(run_ids, others), MEDIAN, recipe.exercise)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "grid").mkdir()
        print(write_grid(comparison, outcomes, remarks, Path(folder, "grid")))
        log.log_files(Path(folder))
        figure = Path(folder, "grid", "grid.svg")
        return figure.read_text("utf-8") if figure.exists() else ""


def report(
    recipe: Recipe,
    ids: Sequence[str],
    others: Others = (),
    searched: str = "",
) -> None:
    """Print the summary of these runs, publish it with the figures, and say where they are.

    A parent run gets the highest of their accuracies. searched: result of report_grid().
    """
    from eml.analysis.figures import FIGURES

    history = history_of(ids, others)
    comparison = Comparison(history, LAST, recipe.exercise, recipe.varies, recipe.rates)
    figures = {name: FIGURES[name].draw for name in recipe.figures}
    with tempfile.TemporaryDirectory() as folder:
        title = comparison.subject or recipe.about.partition(":")[0]
        write(comparison, figures, title, Path(folder), searched=searched)
        if not recipe.exercise:
            last = comparison.trainings[-1]
            epoch, accuracy = last.last_scored
            images = f"{counted(epoch, 'epoch')} on {last.number('train_images'):,.0f} images"
            name = words("model", last.values["model"])
            print(f"the {name}: {accuracy:.0%} after {images}; {CHANCE:.0%} is chance")
        scores = [t.score(LAST) for t in comparison.trainings if not t.unfinished]
        if active_run().info.run_id not in ids and scores:
            log.log_metrics({f"final_{comparison.split}_accuracy": max(scores)})
        publish(comparison, Path(folder))


def write(
    comparison: Comparison,
    figures: Mapping[str, "Draw"],
    title: str,
    folder: Path,
    searched: str = "",
) -> None:
    """Print the summary, and write it with the figures into a folder, with a page of all.

    searched: see write_page.
    """
    # Importing matplotlib takes half a second, which must not delay the first batch.
    from eml.analysis.report import write_page, write_report
    from eml.analysis.tables import markdown

    made = write_report(figures, comparison, folder)
    write_page(folder / PAGE, title, made, searched)
    print("".join(f"warning: {line}\n" for line in made.warnings), end="")
    print(f"\n{markdown(made.brief[:MOST_ROWS])}", end="")
    if (more := len(made.brief) - MOST_ROWS) > 0:
        print(f"and {more} more: summary.md")


def publish(comparison: Comparison, folder: Path) -> None:
    """Log a written report, and print where its page is, and a link to MLflow's UI."""
    log.log_files(folder)
    info, how = active_run().info, ""
    page = f"{ui.site()}/{ui.page(info.experiment_id, info.run_id, f'/artifacts/{PAGE}')}"
    if not is_server():
        page = str(store.place(Path(unquote(urlsplit(info.artifact_uri).path))) / PAGE)
        how = f" (after `mlflow ui --workers 1 --backend-store-uri {uri()}`)"
    print(f"figures and tables: {page}")
    print(f"charts{how}: {ui.site()}/{_charts_of(comparison, info)}", flush=True)


def _charts_of(comparison: Comparison, info: RunInfo) -> str:
    """The charts of those of these runs that the store here has, below the address of the UI."""
    local = [t for t in comparison.trainings if not t.values["store"]]
    if not local:
        return ui.charts(info.experiment_id)
    experiment, ids = local[0].values["experiment_id"], [training.run_id for training in local]
    by = comparison.differing if len(ids) > len(comparison.curves) else []
    return ui.view_of(experiment, info.run_name, ids, by, comparison.split)
