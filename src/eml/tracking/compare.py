"""Selects runs, compares them, and logs the result in a new run."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

from eml.analysis.comparison import Comparison
from eml.analysis.figures import Draw, over
from eml.analysis.labels import X_LABELS, counted
from eml.analysis.options import Selection
from eml.errors import UserError
from eml.recipes import RECIPES
from eml.tracking import publish, runs
from eml.tracking.find import Others, experiment_of, names_in, open_others
from eml.tracking.history import load_history
from eml.tracking.reap import begin


def compare(options: Selection) -> None:
    """Select runs, print their summary, and log it with the figures.

    Raises UserError, before a new run begins, if there is nothing to compare or an option is wrong.
    """
    others = open_others(names_in(options.stores))
    begin(create=bool(others))
    experiment_of("")  # raises UserError if it is deleted
    comparison, figures = _selected(options, others)
    if output := options.output:  # at the start, so that a wrong name fails early
        try:
            Path(output).mkdir(parents=True)
        except OSError as error:
            raise UserError(f"output={output}: {error.strerror}, give a new folder") from error
    trainings = comparison.trainings
    recipes = ", ".join(dict.fromkeys(t.values["recipe"] or "others" for t in trainings))
    title = f"Comparison of {counted(len(trainings), 'run')} of {recipes}"
    with tempfile.TemporaryDirectory() as work:
        publish.write(comparison, figures, title, Path(work))
        Path(work, "runs.txt").write_text("".join(f"{t.run_id}\n" for t in trainings))
        with runs.run(title, "", {"recipe": "compare"}):
            publish.publish(comparison, Path(work))
        if output:
            shutil.copytree(work, output, dirs_exist_ok=True)
            comparison.history.to_csv(Path(output, "history.csv"), index=False)
            print(f"copied to {Path(output).resolve()}")


def _selected(options: Selection, others: Others) -> tuple[Comparison, dict[str, Draw]]:
    """Select and read the runs; what to draw of them."""
    history, left_out = load_history(options, others)
    counts = history.groupby("store")["run_id"].nunique().items()
    of_stores = [f"runs of {store}: {count}" for store, count in counts if store]
    print("".join(f"{line}\n" for line in [*left_out, *of_stores]), end="")
    known = [RECIPES[name] for name in {"main", *history["recipe"]} & RECIPES.keys()]
    lows, highs = zip(*(recipe.rates for recipe in known), strict=True)
    comparison = Comparison(history, rates=(max(lows), min(highs)))
    metrics = [f"{comparison.split}_{kind}" for kind in ("accuracy", "loss")]
    figures: dict[str, Draw] = {
        f"{metric}_over_{'epochs' if x == 'epoch' else x}": partial(over, x=x, metric=metric)
        for metric in filter(comparison.has, metrics)
        for x in X_LABELS
        if x == "epoch" or comparison.has(x)
    }
    return comparison, figures
