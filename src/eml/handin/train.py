"""Trains what a sheet still lacks, then makes its hand-in."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from eml.config import AUTO, Config, ConfigError
from eml.exact.command import gradients
from eml.handin.archive import make
from eml.handin.evidence import meeting_groups
from eml.handin.form import FORM, read_form, write_form
from eml.handin.sheet import Rule, Sheet, load_sheet, sheet_names
from eml.launchers.options import LaunchOptions
from eml.machine import GIVEN_RUN, environment
from eml.models.own_check import check_each
from eml.recipes.recipe import Recipe, RecipeOptions
from eml.sweeps.launch import launch, plan
from eml.sweeps.request import launcher_of
from eml.tracking import find
from eml.tracking.find import Others, below, names_in, open_others
from eml.tracking.history import finished_groups
from eml.tracking.readers import FINISHED
from eml.tracking.reap import begin
from eml.training.cost import duration


def train_sheet(
    name: str, folder: Path, shared: Mapping[str, Any], launching: LaunchOptions
) -> None:
    """Train all that the newest sheet of this name lacks, and make its hand-in below `folder`.

    name: "sheet2", say. shared: options of its recipes. Trains nothing that the store has.
    """
    start = f"ex{name.removeprefix('sheet')}-"
    asked = load_sheet(max(known for known in sheet_names() if known.startswith(start)))
    file, stores = folder / asked.file / FORM, launching.stores
    if file.exists():
        form = read_form(file)
        if form.sheet != asked:
            raise ConfigError(f"{file} is the form of {form.sheet.name}: give another folder")
        theirs = [below(file.parent, store) for store in form.stores]
        launching = replace(launching, stores=",".join([stores, *theirs]))
    for recipe in (assignment.of for assignment in asked.trainings):
        check_each(str(shared["code"]), recipe.configs(_options(recipe, shared)))
    if shared["check"] == "only":
        return
    others = open_others(names_in(launching.stores))
    # Each recipe makes runs of its own; the run of `mlflow run` gets the PDF at the end.
    begin(create=True)
    with environment({GIVEN_RUN: ""}):
        lacking = list(_lacking(asked, shared, launching, others))
        seconds = 0.0
        for arguments in lacking:
            print(f"\n{arguments[0].name}", flush=True)
            seconds += plan(*arguments)
        if lacking and seconds:
            print(f"\n{name}: about {duration(seconds)} in all", flush=True)
        elif not lacking:
            print(f"{name}: nothing is left to train", flush=True)
        has_gradients = any(exercise.gradients for exercise in asked.exercises)
        of_gradients = find.search({"recipe": "gradients"}, others) if has_gradients else []
        if has_gradients and not any(run.status == FINISHED for run in of_gradients):
            gradients()
        for arguments in lacking:
            print(f"\n{arguments[0].name}", flush=True)
            launch(*arguments)
    print()
    if not file.exists():
        write_form(file, asked.name)
    make(file, stores)


def _options(recipe: Recipe, values: Mapping[str, Any]) -> RecipeOptions:
    """The options of a recipe, with those of these values that it has."""
    known = (field.name for field in fields(recipe.options))
    return recipe.options(**{name: values[name] for name in known if name in values})


def _lacking(
    asked: Sheet, shared: Mapping[str, Any], launching: LaunchOptions, others: Others
) -> Iterator[tuple[Recipe, list[Config], RecipeOptions, LaunchOptions]]:
    """Yield the arguments of launch() for each recipe whose trainings the stores lack."""
    has_gpu = launcher_of(launching).device(AUTO) == "cuda"
    for assignment in asked.trainings:
        recipe, instead = assignment.of, {} if has_gpu else assignment.without_gpu
        # The epochs and the images of the options are asked for in place of the sheet's.
        rules = [
            replace(rule, only=(shared[rule.field],)) if rule.field in shared else rule
            for rule in assignment.rules
        ]
        options = _options(recipe, {**shared, **instead})
        configs = recipe.configs(options)
        code = [configs[0].code_sha256]
        rules.append(Rule(says="the code", field="code_sha256", only=code, draft=True))
        if instead:  # what needs a GPU cannot be met here
            text = ", ".join(f"{name}={value}" for name, value in instead.items())
            print(f"{recipe.name}: no GPU can be used here, so {text}")
            rules = [rule for rule in rules if rule.draft]
        if meeting := meeting_groups(finished_groups(recipe.name, find.Stores(others)), rules):
            print(f"{recipe.name}: already done, run {meeting[0].top.where}")
        else:
            stores = launching.stores if recipe.reuses else ""
            yield recipe, configs, options, replace(launching, stores=stores)
