"""The `compare` command: selects runs, compares them, and logs the result in a new run."""

import tempfile
from functools import partial
from pathlib import Path

import pandas as pd

from eml.analysis.curves import evaluated
from eml.analysis.fairness import differences
from eml.analysis.figures import FIGURES, Draw, over
from eml.analysis.options import ALL, CRITERIA, X_LABELS, CompareOptions, Subject, figure_name
from eml.analysis.report import write_report
from eml.config import one_of
from eml.errors import UserError
from eml.recipes import RECIPES
from eml.tracking import log, runs
from eml.tracking.history import METRICS, load_history
from eml.tracking.publish import make_output, publish, say_where
from eml.tracking.reap import begin
from eml.tracking.selection import NothingFinishedError, Selection, SelectionError

PLOTS = [recipe.name for recipe in RECIPES.values() if recipe.exercise]


def compare(options: CompareOptions) -> None:
    """Select runs, print their summary, and log it with the figures.

    Raises UserError, before a new run begins, if there is nothing to compare or an option is wrong.
    """
    metrics, targets = _metrics(options.metric), _targets(options.target)
    one_of("x", options.x, [*X_LABELS, ALL])
    one_of("criterion", options.criterion, CRITERIA)
    if options.plot:
        one_of("plot", options.plot, [*PLOTS, ALL])
        if (options.x, options.metric) != (CompareOptions.x, CompareOptions.metric):
            raise UserError("x and metric have no effect with plot: leave them out")
    begin()
    absent = []
    sections: dict[str, tuple[pd.DataFrame, dict[str, Draw]]] = {}
    for name in PLOTS if options.plot == ALL else [options.plot]:
        selection = _selection(options, name)
        try:
            history, left_out = load_history(selection)
        except NothingFinishedError as error:
            if options.plot != ALL:
                raise
            absent.append(f"{name}: {error}")
            continue
        for line in left_out:
            print(line)
        sections[name] = history, _figures(name, options.x, metrics, history)
    if sections:
        print("".join(f"{line}\n" for line in absent), end="")
    else:
        raise SelectionError("no exercise of the sheets has a finished run here: train one first")
    _refuse_if_strict(options.strict, sections)
    make_output(options.output)
    with tempfile.TemporaryDirectory() as work:
        parts = []
        for name, (history, figures) in sections.items():
            folder = Path(work, name if options.plot == ALL else "")
            folder.mkdir(exist_ok=True)
            title = f"## {name}\n\n" if name else ""
            criterion = options.criterion
            subject = RECIPES[name].subject(criterion) if name else Subject(criterion=criterion)
            parts.append(title + write_report(figures, history, folder, targets, subject))
        text = "\n".join(parts)
        print(text)
        sources = [id_ for history, _ in sections.values() for id_ in history["run_id"].unique()]
        with runs.run("compare", text, {"recipe": "compare"}):
            log.log_sources(sources)
            publish(Path(work), options.output)
            say_where(options.output)


def _selection(options: CompareOptions, recipe: str) -> Selection:
    chosen = options.runs or options.parent or options.filter
    run_ids = [run_id.strip() for run_id in options.runs.split(",") if run_id.strip()]
    if options.runs and not run_ids:
        raise UserError(f"runs={options.runs}: give run ids separated by commas")
    return Selection(
        experiment=options.experiment,
        recipe=options.recipe or ("" if chosen else recipe),
        parent=options.parent,
        runs=run_ids,
        filter=options.filter,
        of_the_sheet=bool(recipe),
    )


def _figures(plot: str, x: str, metrics: list[str], history: pd.DataFrame) -> dict[str, Draw]:
    if plot:
        return {name: FIGURES[name] for name in RECIPES[plot].figures}
    if evaluated(history) == "validation":
        metrics = [metric.replace("test_", "validation_") for metric in metrics]
    for metric in metrics:
        if history[metric].isna().all():
            raise UserError(f"metric={metric}: none of these runs has this metric")
    return {
        figure_name(metric, axis): partial(over, x=axis, metric=metric)
        for metric in metrics
        for axis in (X_LABELS if x == ALL else [x])
    }


def _refuse_if_strict(strict: bool, sections: dict[str, tuple[pd.DataFrame, dict]]) -> None:
    if not strict:
        return
    found = [line for history, _ in sections.values() for line in differences(history)]
    if found:
        raise UserError(
            f"strict: these runs differ in more than what is compared: {'; '.join(found)}"
        )


def _metrics(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    by_epoch = [metric for metric in METRICS if metric != "setup_seconds"]
    for name in names:
        one_of("metric", name, by_epoch)
    if not names:
        raise UserError(f"metric={text}: give one or more of {', '.join(by_epoch)}")
    return names


def _targets(text: str) -> list[float]:
    try:
        targets = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        targets = [-1.0]
    if not all(0 < target <= 1 for target in targets):
        raise UserError(f"target={text}: give accuracies above 0, up to 1, separated by commas")
    return targets
