"""Makes the figures and tables of runs from the store, logs them, and says where they are."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from mlflow.entities import RunInfo

from eml.analysis.comparison import Comparison
from eml.analysis.labels import LAST, MEDIAN, counted
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


class Section(NamedTuple):
    """A part of a report, with figures of its own."""

    comparison: Comparison
    figures: Mapping[str, "Draw"]
    name: str = ""  # of the recipe whose figures are drawn; "" where none was named
    folder: str = ""  # below that of the report

    @property
    def subject(self) -> str:
        trainings = self.comparison.trainings
        recipes = dict.fromkeys(training.values["recipe"] or "others" for training in trainings)
        return self.name or f"{counted(len(trainings), 'run')} of {', '.join(recipes)}"


def report_grid(
    recipe: Recipe,
    run_ids: Sequence[str],
    outcomes: Outcomes,
    remarks: Sequence[str],
    others: Others = (),
) -> None:
    """Print which learning rates were tried and chosen, and publish it with a figure in `grid`."""
    from eml.analysis.report import write_grid

    comparison = Comparison(history_of(run_ids, others), MEDIAN, recipe.exercise)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "grid").mkdir()
        print(write_grid(comparison, outcomes, remarks, Path(folder, "grid")))
        log.log_files(Path(folder))


def report(recipe: Recipe, ids: Sequence[str], others: Others = (), criterion: str = LAST) -> None:
    """Print the summary of these runs, publish it with the figures, and say where they are.

    A parent run gets the highest of their accuracies.
    """
    from eml.analysis.figures import FIGURES

    history = history_of(ids, others)
    comparison = Comparison(history, criterion, recipe.exercise, recipe.varies, recipe.rates)
    section = Section(comparison, {name: FIGURES[name].draw for name in recipe.figures})
    with tempfile.TemporaryDirectory() as folder:
        write([section], recipe.exercise or recipe.name, Path(folder))
        scores = [t.score(LAST) for t in comparison.trainings if not t.unfinished]
        if active_run().info.run_id not in ids and scores:
            log.log_metrics({f"final_{comparison.split}_accuracy": max(scores)})
        publish([section], Path(folder))


def write(
    sections: Sequence[Section],
    title: str,
    folder: Path,
    targets: Sequence[float] = (),
    pdf: bool = False,
) -> None:
    """Print the summaries, and write them with the figures into a folder, with a page of all.

    targets, pdf: see write_report.
    """
    # Importing matplotlib takes half a second, which must not delay the first batch.
    from eml.analysis.report import Part, write_page, write_report

    parts = []
    for section in sections:
        own = folder / section.folder
        own.mkdir(exist_ok=True)
        text = write_report(section.figures, section.comparison, own, targets, pdf)
        parts.append(Part(own, f"## {section.name}\n\n{text}" if section.name else text))
    print("\n".join(part.text for part in parts))
    write_page(folder / PAGE, title, parts)


def publish(sections: Sequence[Section], folder: Path) -> None:
    """Log a written report, and print where all is."""
    log.log_files(folder)
    _say_where(sections, active_run().info)


def _say_where(sections: Sequence[Section], info: RunInfo) -> None:
    """Print where the artifacts of a run are, on disk and in the UI."""
    if not is_server():
        folder = Path(unquote(urlsplit(info.artifact_uri).path))
        print(f"figures and tables: {store.place(folder)}")
        print(f"in the UI, after `mlflow ui --backend-store-uri {uri()}`:")
    page = ui.page(info.experiment_id, info.run_id, f"/artifacts/{PAGE}")
    print(f"  figures and tables: {ui.site()}/{page}")
    for section in sections:
        charts = _charts_of(section.comparison, info)
        print(f"  charts of {section.name or 'these runs'}: {ui.site()}/{charts}")
    print(f"  charts of all runs: {ui.site()}/{ui.charts(info.experiment_id)}", flush=True)


def _charts_of(comparison: Comparison, info: RunInfo) -> str:
    """The charts of those of these runs that the store here has, below the address of the UI."""
    local = [t for t in comparison.trainings if not t.values["store"]]
    if not local:
        return ui.charts(info.experiment_id)
    experiment, ids = local[0].values["experiment_id"], [training.run_id for training in local]
    return ui.view_of(experiment, info.run_name, ids, comparison.differing, comparison.split)
