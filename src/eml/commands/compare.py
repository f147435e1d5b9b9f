"""The `compare` command: selects runs, compares them, and logs the result in a new run."""

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from eml.analysis.convolutions import write_convolutions
from eml.analysis.curves import evaluated
from eml.analysis.fairness import differences
from eml.analysis.figures import FIGURES, Draw, over
from eml.analysis.options import ALL, CRITERIA, PAGE, X_LABELS, CompareOptions, Subject, figure_name
from eml.analysis.page import Part, write_page
from eml.analysis.report import write_report
from eml.config import one_of
from eml.errors import UserError
from eml.recipes import RECIPES
from eml.recipes.convolutions import NAME as CONVOLUTIONS
from eml.tracking import log, runs
from eml.tracking.history import METRICS, load_history
from eml.tracking.measurements import load_measurements
from eml.tracking.notes import charts_of, describe, results
from eml.tracking.publish import make_output, publish, say_where
from eml.tracking.reap import begin
from eml.tracking.selection import (
    NothingFinishedError,
    SelectionError,
    ids_in,
    selected_by,
)

PLOTS = [CONVOLUTIONS, *(recipe.name for recipe in RECIPES.values() if recipe.exercise)]


class Section(NamedTuple):
    """A part of the comparison, with figures of its own."""

    name: str  # of the recipe; "" where none was named
    run_ids: list[str]
    differences: list[str]  # what else differs
    refused: list[str]  # what of it strict refuses
    write: Callable[[Path], str]  # writes its files into a folder, and returns its text
    history: pd.DataFrame | None = None  # of trainings


def compare(options: CompareOptions) -> dict[str, Any]:
    """Select runs, print their summary, and log it with the figures. Returns the same for JSON.

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
    absent, sections = [], []
    for name in PLOTS if options.plot == ALL else [options.plot]:
        try:
            if name == CONVOLUTIONS:
                sections.append(_of_measurements(options))
            else:
                sections.append(_of_trainings(options, name, metrics, targets))
        except NothingFinishedError as error:
            if options.plot != ALL:
                raise
            absent.append(f"{name}: {error}")
    if sections:
        print("".join(f"{line}\n" for line in absent), end="")
    else:
        raise SelectionError("no exercise of the sheets has a finished run here: train one first")
    if options.strict and (found := [line for each in sections for line in each.refused]):
        raise UserError(
            f"strict: these runs differ in more than what is compared: {'; '.join(found)}"
        )
    make_output(options.output)
    with tempfile.TemporaryDirectory() as work:
        parts: list[Part] = []
        for section in sections:
            folder = Path(work, section.name if options.plot == ALL else "")
            folder.mkdir(exist_ok=True)
            title = f"## {section.name}\n\n" if section.name else ""
            parts.append(Part(folder, title + section.write(folder)))
        print("\n".join(part.text for part in parts))
        write_page(Path(work, PAGE), _name(sections), parts)
        with runs.run(_name(sections), "", {"recipe": "compare"}):
            log.log_sources([run_id for each in sections for run_id in each.run_ids])
            publish(Path(work), options.output)
            lines, charts = [], {}
            for section in sections:
                if section.history is not None:
                    lines += results(section.history)
                    name = f"charts of {section.name or 'these runs'}"
                    charts[name] = charts_of(section.history)
            describe(lines, "")
            say_where(options.output, charts)
            info = runs.active_run().info
        return {
            "run_id": info.run_id,
            "artifacts": info.artifact_uri,
            "comparisons": [
                _for_json(section, part.folder)
                for section, part in zip(sections, parts, strict=True)
            ],
        }


def _for_json(section: Section, folder: Path) -> dict[str, Any]:
    """The tables that a section has written, and what else differs."""
    tables = {file.stem: pd.read_csv(file) for file in sorted(folder.glob("*.csv"))}
    return {
        "plot": section.name,
        "also_different": section.differences,
        **{name: json.loads(table.to_json(orient="records")) for name, table in tables.items()},
    }


def _name(sections: Sequence[Section]) -> str:
    """The name of the comparison's run: what is compared."""
    names = [section.name for section in sections]
    if names == [""]:
        (section,) = sections
        assert section.history is not None
        recipes = ", ".join(section.history["recipe"].unique())
        return f"compare {len(section.run_ids)} runs of {recipes}"
    return f"compare {', '.join(names)}"


def _of_trainings(
    options: CompareOptions, name: str, metrics: list[str], targets: list[float]
) -> Section:
    """The section of trainings; name: of the recipe whose figures are drawn, or ""."""
    history, left_out = load_history(selected_by(options, name))
    for line in left_out:
        print(line)
    figures = _figures(name, options.x, metrics, history)
    criterion = options.criterion
    subject = RECIPES[name].subject(criterion) if name else Subject(criterion=criterion)
    return Section(
        name,
        list(history["run_id"].unique()),
        differences(history),
        differences(history, seconds=any("seconds" in figure for figure in figures)),
        lambda folder: write_report(
            figures, history, folder, targets, subject, bool(options.output)
        ),
        history,
    )


def _of_measurements(options: CompareOptions) -> Section:
    """The section of measured convolutions."""
    if options.recipe or options.filter:
        raise UserError(
            f"recipe and filter have no effect with plot={CONVOLUTIONS}: leave them out"
        )
    frame = load_measurements(ids_in(options.runs) + ids_in(options.parent), options.experiment)
    machines = list(frame["hardware"].unique())
    different = [f"hardware: {', '.join(machines)}"] if len(machines) > 1 else []
    return Section(
        CONVOLUTIONS,
        list(frame["run_id"].unique()),
        different,
        different,
        lambda folder: write_convolutions(frame, folder, bool(options.output)),
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
