"""Selects runs, compares them, and logs the result in a new run."""

import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from eml.analysis.comparison import Comparison
from eml.analysis.figures import FIGURES, Draw, over
from eml.analysis.labels import BEST, LAST, X_LABELS, counted
from eml.analysis.options import CompareOptions
from eml.config import one_of
from eml.errors import UserError
from eml.machine import given_run_id
from eml.recipes import RECIPES
from eml.tracking import publish, runs
from eml.tracking.find import Others, experiment_of, names_in, open_others
from eml.tracking.history import load_history
from eml.tracking.reap import begin

PLOTS = [recipe.name for recipe in RECIPES.values() if recipe.exercise]


def compare(options: CompareOptions) -> None:
    """Select runs, print their summary, and log it with the figures.

    Raises UserError, before a new run begins, if there is nothing to compare or an option is wrong.
    """
    targets = _targets(options.target)
    one_of("criterion", options.criterion, (LAST, BEST))
    if options.plot:
        one_of("plot", options.plot, PLOTS)
    others = open_others(names_in(options.stores))
    begin(create=bool(others))
    experiment_of("")  # raises UserError if it is deleted
    comparison, figures = _selected(options, others)
    make_output(options.output)
    trainings = comparison.trainings
    recipes = ", ".join(dict.fromkeys(t.values["recipe"] or "others" for t in trainings))
    compared = options.plot or f"{counted(len(trainings), 'run')} of {recipes}"
    title = f"Comparison of {compared}"
    with tempfile.TemporaryDirectory() as work:
        shown = comparison.subject or title
        publish.write(comparison, figures, shown, Path(work), targets)
        Path(work, "runs.txt").write_text("".join(f"{t.run_id}\n" for t in trainings))
        with runs.run(title, "", {"recipe": "compare"}):
            publish.publish(comparison, Path(work))
        if options.output:
            shutil.copytree(work, options.output, dirs_exist_ok=True)
            comparison.history.to_csv(Path(options.output, "history.csv"), index=False)
            print(f"copied to {Path(options.output).resolve()}")


def _selected(options: CompareOptions, others: Others) -> tuple[Comparison, dict[str, Draw]]:
    """Select and read the runs; what to draw of them."""
    name = options.plot
    named = options.recipe or options.runs or options.filter
    selection = options if named else replace(options, recipe=name)
    history, left_out = load_history(selection, others, of_the_sheet=bool(name))
    counts = history.groupby("store")["run_id"].nunique().items()
    of_stores = [f"runs of {store}: {count}" for store, count in counts if store]
    print("".join(f"{line}\n" for line in [*left_out, *of_stores]), end="")
    if name:
        recipe = RECIPES[name]
        about = recipe.exercise, recipe.varies, recipe.rates
        comparison = Comparison(history, options.criterion, *about)
        figures = {name: FIGURES[name].draw for name in recipe.figures}
    else:
        known = [RECIPES[name] for name in {"main", *history["recipe"]} & RECIPES.keys()]
        lows, highs = zip(*(recipe.rates for recipe in known), strict=True)
        comparison = Comparison(history, options.criterion, rates=(max(lows), min(highs)))
        metrics = [f"{comparison.split}_{kind}" for kind in ("accuracy", "loss")]
        figures = {
            f"{metric}_over_{'epochs' if x == 'epoch' else x}": partial(over, x=x, metric=metric)
            for metric in filter(comparison.has, metrics)
            for x in X_LABELS
            if x == "epoch" or comparison.has(x)
        }
    return comparison, figures


def _targets(text: str) -> list[float]:
    try:
        targets = list(map(float, names_in(text)))
    except ValueError:
        targets = [-1.0]
    if not all(0 < target <= 1 for target in targets):
        raise UserError(f"target={text}: give accuracies above 0, up to 1, separated by commas")
    return targets


def make_output(output: str) -> None:
    """Make the folder for a copy at the start, so that a wrong name fails early.

    Raises UserError if it cannot be made, or holds files.
    """
    if not output:
        return
    folder = Path(output)
    if not folder.is_absolute() and given_run_id():
        # `mlflow run` changes the working directory, sometimes to one that it deletes.
        raise UserError(f"output={output}: give an absolute path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"output={output}: the folder holds other files, give a new folder")
    except OSError as error:
        raise UserError(f"output={output}: {error.strerror}, give a folder") from error
