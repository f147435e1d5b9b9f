"""Trains what a sheet still lacks, then makes its hand-in."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from eml.config import AUTO, Config, ConfigError
from eml.exact.command import Options as ExactOptions
from eml.exact.command import gradients
from eml.handin.commands import build, init
from eml.handin.evidence import meeting_groups
from eml.handin.form import read_form
from eml.handin.options import FORM, SheetOptions
from eml.handin.sheet import Rule, Sheet, Trainings, load_sheet, sheet_names
from eml.launchers.options import LaunchOptions
from eml.recipes.options import RecipeOptions
from eml.sweeps.launch import launch, launcher_of, plan
from eml.tracking import find, mlflow_run
from eml.tracking.reap import begin
from eml.tracking.selection import finished_groups
from eml.tracking.stores import Others, below, names_in, open_others
from eml.training.cost import duration


class Work(NamedTuple):
    """The trainings of a recipe that a sheet still lacks."""

    trainings: Trainings
    configs: list[Config]
    options: RecipeOptions


def sheet(name: str, options: SheetOptions, launching: LaunchOptions) -> None:
    """Train all that the newest sheet of this name lacks, and make its hand-in.

    name: "sheet2", say. What the store has already is not trained again. The same command goes on
    after an interruption.
    """
    if launching.output:
        raise ConfigError(f"output={launching.output} has no effect with {name}: give folder")
    number = name.removeprefix("sheet")
    asked = load_sheet([each for each in sheet_names() if each.startswith(f"ex{number}-")][-1])
    form = options.folder / asked.file / FORM
    given = launching.stores
    if form.exists():
        theirs = [below(form.parent, name) for name in read_form(form).stores]
        launching = replace(launching, stores=",".join([given, *theirs]))
    others = open_others(names_in(launching.stores))
    # Each recipe makes runs of its own; the run of `mlflow run` gets the PDF at the end.
    with mlflow_run.set_aside():
        begin(create=True)
        work = list(_lacking(asked, options, launching, others))
        _say_plan(name, work, launching)
        has_gradients = any(exercise.gradients for exercise in asked.exercises)
        if has_gradients and not find.finished("gradients", others):
            gradients(ExactOptions())
        for each in work:
            print(f"\n{each.trainings.recipe}", flush=True)
            launch(each.trainings.of, each.configs, each.options, launching)
    print()
    init(asked.name, form)
    build(form, given)


def _lacking(
    asked: Sheet, options: SheetOptions, launching: LaunchOptions, others: Others
) -> Iterator[Work]:
    has_gpu = launcher_of(launching).device(AUTO) == "cuda"
    for trainings in asked.trainings:
        given: dict[str, Any] = {} if has_gpu else dict(trainings.without_gpu)
        known = {field.name for field in fields(trainings.of.options)}
        shared = {"epochs": options.epochs, "subset": options.subset, "device": options.device}
        given |= {key: value for key, value in shared.items() if key in known}
        made = trainings.of.options(**given)
        configs = trainings.of.configs(made)
        rules = [_with_extent(rule, options) for rule in trainings.rules]
        if not has_gpu and trainings.without_gpu:  # what needs a GPU cannot be met here
            instead = ", ".join(f"{k}={v}" for k, v in trainings.without_gpu.items())
            print(f"{trainings.recipe}: there is no GPU here, so {instead}")
            rules = [rule for rule in rules if rule.draft]
        if meeting := meeting_groups(finished_groups(trainings.recipe, others), rules):
            print(f"{trainings.recipe}: already done, run {meeting[0].top.where}")
        else:
            yield Work(trainings, configs, made)


def _with_extent(rule: Rule, options: SheetOptions) -> Rule:
    """The rule with the epochs and the images of the options in place of the sheet's."""
    given = {"epochs": options.epochs, "subset": options.subset}
    return replace(rule, only=(given[rule.field],)) if rule.field in given else rule


def _say_plan(name: str, work: Sequence[Work], launching: LaunchOptions) -> None:
    """Print what will be trained, and how long it takes by a few batches of each kind."""
    seconds = 0.0
    for each in work:
        print(f"\n{each.trainings.recipe}", flush=True)
        seconds += plan(each.trainings.of, each.configs, each.options, launching)["seconds"]
    if work:
        print(f"\n{name}: about {duration(seconds)} in all", flush=True)
    else:
        print(f"{name}: nothing is left to train")
