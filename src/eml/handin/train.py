"""Trains what a sheet still lacks, then makes its hand-in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from eml.config import AUTO, Config, ConfigError
from eml.exact.command import Options as ExactOptions
from eml.exact.command import gradients
from eml.handin.archive import make
from eml.handin.evidence import meeting_groups
from eml.handin.form import FORM, read_form, write_form
from eml.handin.sheet import Assignment, Sheet, load_sheet, sheet_names
from eml.launchers.options import LaunchOptions
from eml.recipes.options import RecipeOptions
from eml.sweeps.launch import launch, plan
from eml.sweeps.request import launcher_of
from eml.tracking import find, mlflow_run
from eml.tracking.reap import begin
from eml.tracking.selection import finished_groups
from eml.tracking.stores import Others, below, names_in, open_others
from eml.training.cost import duration


@dataclass(frozen=True)
class Work:
    """The trainings of a recipe that a sheet still lacks."""

    assignment: Assignment
    configs: list[Config]
    options: RecipeOptions


def train_sheet(
    name: str, folder: Path, shared: Mapping[str, Any], launching: LaunchOptions
) -> None:
    """Train all that the newest sheet of this name lacks, and make its hand-in below `folder`.

    name: "sheet2", say. shared: epochs, subset and device, for all recipes. Trains nothing again
    that the store has. The same command goes on after an interruption.
    """
    if launching.output:
        raise ConfigError(f"output={launching.output} has no effect with {name}: give folder")
    start = f"ex{name.removeprefix('sheet')}-"
    asked = load_sheet(max(known for known in sheet_names() if known.startswith(start)))
    form = folder / asked.file / FORM
    stores = launching.stores
    if form.exists():
        theirs = [below(form.parent, store) for store in read_form(form).stores]
        launching = replace(launching, stores=",".join([stores, *theirs]))
    others = open_others(names_in(launching.stores))
    # Each recipe makes runs of its own; the run of `mlflow run` gets the PDF at the end.
    with mlflow_run.set_aside():
        begin(create=True)
        lacking = list(_lacking(asked, shared, launching, others))
        seconds = 0.0
        for work in lacking:
            print(f"\n{work.assignment.recipe}", flush=True)
            planned = plan(work.assignment.of, work.configs, work.options, launching)
            seconds += planned["seconds"]
        total = f"\n{name}: about {duration(seconds)} in all"
        print(total if lacking else f"{name}: nothing is left to train", flush=True)
        has_gradients = any(exercise.gradients for exercise in asked.exercises)
        if has_gradients and not find.finished("gradients", others):
            gradients(ExactOptions())
        for work in lacking:
            print(f"\n{work.assignment.recipe}", flush=True)
            launch(work.assignment.of, work.configs, work.options, launching)
    print()
    write_form(form, asked.name)
    make(form, stores)


def _lacking(
    asked: Sheet, shared: Mapping[str, Any], launching: LaunchOptions, others: Others
) -> Iterator[Work]:
    has_gpu = launcher_of(launching).device(AUTO) == "cuda"
    for assignment in asked.trainings:
        instead = {} if has_gpu else assignment.without_gpu
        known = {field.name for field in fields(assignment.of.options)}
        values = {name: value for name, value in shared.items() if name in known}
        options = assignment.of.options(**instead, **values)
        # The epochs and the images of the options are asked for in place of the sheet's.
        rules = [
            replace(rule, only=(shared[rule.field],)) if rule.field in shared else rule
            for rule in assignment.rules
        ]
        if instead:  # what needs a GPU cannot be met here
            text = ", ".join(f"{name}={value}" for name, value in instead.items())
            print(f"{assignment.recipe}: there is no GPU here, so {text}")
            rules = [rule for rule in rules if rule.draft]
        if meeting := meeting_groups(finished_groups(assignment.recipe, others), rules):
            print(f"{assignment.recipe}: already done, run {meeting[0].top.where}")
        else:
            yield Work(assignment, assignment.of.configs(options), options)
