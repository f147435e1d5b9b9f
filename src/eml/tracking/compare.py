"""Selects runs, compares them, and logs the result in a new run."""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from eml.analysis.curves import evaluated
from eml.analysis.fairness import differences
from eml.analysis.figures import FIGURES, Draw, over
from eml.analysis.options import ALL, CRITERIA, PAGE, X_LABELS, CompareOptions, Subject, figure_name
from eml.analysis.page import Part, write_page
from eml.analysis.report import write_report
from eml.config import one_of
from eml.errors import UserError
from eml.recipes import RECIPES
from eml.tracking import log, runs
from eml.tracking.history import METRICS, load_history
from eml.tracking.notes import charts_of, describe, results
from eml.tracking.publish import make_output, publish, say_where
from eml.tracking.reap import begin
from eml.tracking.selection import NothingFinishedError, SelectionError, selected_by
from eml.tracking.stores import Others, names_in, open_others

PLOTS = [recipe.name for recipe in RECIPES.values() if recipe.exercise]


class Section(NamedTuple):
    """A part of the comparison, with figures of its own."""

    name: str  # of the recipe whose figures are drawn; "" where none was named
    history: pd.DataFrame
    figures: dict[str, Draw]

    @property
    def subject(self) -> str:
        """What is compared, for the name of the run."""
        recipes = ", ".join(self.history["recipe"].unique())
        return self.name or f"{self.history['run_id'].nunique()} runs of {recipes}"


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
    others = open_others(names_in(options.stores))
    begin(create=bool(others))
    sections = _sections(options, metrics, others)
    if options.strict and (refused := [line for section in sections for line in _refused(section)]):
        raise UserError(
            f"strict: these runs differ in more than what is compared: {'; '.join(refused)}"
        )
    make_output(options.output)
    title = f"compare {', '.join(section.subject for section in sections)}"
    with tempfile.TemporaryDirectory() as work:
        parts = [_write(section, Path(work), options, targets) for section in sections]
        print("\n".join(part.text for part in parts))
        write_page(Path(work, PAGE), title, parts)
        with runs.run(title, "", {"recipe": "compare"}):
            _publish(sections, parts, Path(work), options.output)
            info = runs.active_run().info
        return {
            "run_id": info.run_id,
            "artifacts": info.artifact_uri,
            "comparisons": [
                _for_json(section, part.folder)
                for section, part in zip(sections, parts, strict=True)
            ],
        }


def _sections(options: CompareOptions, metrics: list[str], others: Others) -> list[Section]:
    """Read and select the runs; with plot=all, print which recipes have none finished."""
    absent, sections = [], []
    for name in PLOTS if options.plot == ALL else [options.plot]:
        try:
            sections.append(_section(options, name, metrics, others))
        except NothingFinishedError as error:
            if options.plot != ALL:
                raise
            absent.append(f"{name}: {error}")
    if not sections:
        raise SelectionError("no exercise of the sheets has a finished run here: train one first")
    print("".join(f"{line}\n" for line in absent), end="")
    return sections


def _section(options: CompareOptions, name: str, metrics: list[str], others: Others) -> Section:
    """name: of the recipe whose figures are drawn, or ""."""
    history, left_out = load_history(selected_by(options, name, others))
    for line in left_out:
        print(line)
    for store, count in history.groupby("store")["run_id"].nunique().items():
        if store:
            print(f"runs of {store}: {count}")
    return Section(name, history, _figures(name, options.x, metrics, history))


def _refused(section: Section) -> list[str]:
    """The differences that strict refuses."""
    return differences(section.history, seconds=any("seconds" in name for name in section.figures))


def _write(section: Section, work: Path, options: CompareOptions, targets: list[float]) -> Part:
    """Write the report of a section into `work`, or with plot=all into a folder of its own."""
    folder = work / (section.name if options.plot == ALL else "")
    folder.mkdir(exist_ok=True)
    criterion = options.criterion
    subject = (
        RECIPES[section.name].subject(criterion) if section.name else Subject(criterion=criterion)
    )
    pdf = bool(options.output)
    text = write_report(section.figures, section.history, folder, targets, subject, pdf)
    return Part(folder, f"## {section.name}\n\n{text}" if section.name else text)


def _publish(sections: Sequence[Section], parts: Sequence[Part], work: Path, output: str) -> None:
    """Log files, sources and notes in the active run, and say where they are.

    The copy of the files in `output` also gets the histories.
    """
    log.log_sources(
        [run_id for section in sections for run_id in section.history["run_id"].unique()]
    )
    publish(work, output)
    for section, part in zip(sections, parts, strict=True) if output else ():
        file = Path(output, part.folder.relative_to(work), "history.csv")
        section.history.to_csv(file, index=False)
    describe([line for section in sections for line in results(section.history)], "")
    charts = {
        f"charts of {section.name or 'these runs'}": charts_of(section.history)
        for section in sections
    }
    say_where(output, charts)


def _for_json(section: Section, folder: Path) -> dict[str, Any]:
    """The tables that a section has written, and what else differs."""
    tables = {file.stem: pd.read_csv(file) for file in sorted(folder.glob("*.csv"))}
    return {
        "plot": section.name,
        "also_different": differences(section.history),
        **{name: json.loads(table.to_json(orient="records")) for name, table in tables.items()},
    }


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
