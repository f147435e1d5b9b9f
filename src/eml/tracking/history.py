"""Selects trainings in the store, and reads their histories as one tidy frame."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import pandas as pd

from eml.analysis.labels import counted
from eml.analysis.options import Selection
from eml.config import Config, one_of
from eml.errors import UserError, printable
from eml.recipes import RECIPES
from eml.tracking import tags
from eml.tracking.calls import store_call
from eml.tracking.find import Others, Stores, names_in
from eml.tracking.readers import FINISHED, StoredRun
from eml.tracking.store import open_store
from eml.training.loop import EpochRecord

METRICS = [f.name for f in fields(EpochRecord) if f.name not in ("epoch", "timestamp")]
LONGEST_TAG = 200  # characters of a tag in a frame


class Group(NamedTuple):
    """A finished top-level run of a recipe, and its trainings."""

    top: StoredRun
    members: list[StoredRun]


@store_call
def load_history(selection: Selection, others: Others = ()) -> tuple[pd.DataFrame, list[str]]:
    """The histories of the selected runs, and a line for each run that was left out.

    The frame has the columns of eml.load_history. Of several runs with the same Config (seed
    included) it holds one: the newest finished run, else the newest. Unfinished and diverged runs
    are included. If an epoch was logged twice, the last point counts. Raises UserError if nothing
    is selected or nothing has an epoch, StoreError if a store cannot be read.
    """
    open_store(create=False, others=others)
    stores = Stores(others)
    selected, passed_over = _select(selection, stores)
    runs, left_out = _comparable(selected)
    frame = _frame(runs, stores) if runs else pd.DataFrame()
    with_epochs = set(frame.get("run_id", ()))
    no_epoch = [f"left out, no epoch: {r.where}" for r in runs if r.run_id not in with_epochs]
    left_out = [*passed_over, *left_out, *no_epoch]
    if frame.empty:
        raise UserError("; ".join(["no training selected", *left_out[:5]]))
    return frame, left_out


def history_of(run_ids: Sequence[str], others: Others = ()) -> pd.DataFrame:
    """The histories of these runs; prints a line for each run that was left out."""
    history, left_out = load_history(Selection(runs=",".join(run_ids)), others)
    print("".join(f"{line}\n" for line in left_out), end="", flush=True)
    return history


@store_call
def members(run_ids: Sequence[str], stores: Stores) -> list[StoredRun]:
    """The trainings with these ids; a parent's id stands for its trainings.

    Raises UserError if no store has a run.
    """
    runs, missing = stores.get(run_ids)
    if missing:
        raise UserError(f"no run {missing} in {stores}")
    return [member for run in runs for member in _members(run, stores)]


@store_call
def finished_groups(recipe: str, stores: Stores) -> list[Group]:
    """The finished groups of a recipe in all experiments, newest first."""
    tops = [run for run in stores.search({"recipe": recipe}) if not run.parent]
    return list(_finished(tops, stores))


def _select(selection: Selection, stores: Stores) -> tuple[list[StoredRun], list[str]]:
    """The selected runs, oldest first or in the order given, and a line for each passed over."""
    recipe = selection.recipe
    if recipe:
        one_of("recipe", recipe, RECIPES)
    if selection.runs:
        if not (ids := names_in(selection.runs)):
            raise UserError(f"runs={selection.runs}: give run ids separated by commas")
        return members(ids, stores), []
    if selection.filter:
        runs = stores.search(selection.filter, selection.experiment)[::-1]
        if not runs:
            names = ", ".join(field.name for field in fields(Config)).replace("_rate", "_rate (lr)")
            raise UserError(f"filter={selection.filter}: no such run; parameters are {names}")
        return [run for run in runs if recipe in ("", run.tags.get("recipe"))], []
    runs = stores.search({"recipe": recipe} if recipe else {}, selection.experiment)
    return _newest_group(runs, selection, stores)


def _newest_group(
    runs: Sequence[StoredRun], selection: Selection, stores: Stores
) -> tuple[list[StoredRun], list[str]]:
    """The trainings of the newest finished group, and a line for each run passed over."""
    tops = [run for run in runs if not run.parent and run.tags.get("recipe") in RECIPES]
    group = next(_finished(tops, stores), None)
    if group is None:
        inside = f"the experiment {selection.experiment} of " if selection.experiment else ""
        unfinished = f", {len(tops)} not finished" if tops else ""
        hint = "give another experiment or recipe, or runs or filter"
        if not any(r.status == FINISHED and not r.why_no_training for r in stores.search({})):
            hint = "train first"
        raise UserError(f"no finished training of a recipe in {inside}{stores}{unfinished}: {hint}")
    recipe = group.top.tags["recipe"]
    if any(run.tags.get("recipe") != recipe for run in group.members):
        return group.members, []
    # A recipe of one training: all its trainings form one group, however launched, unless they
    # differ from the newest in epochs or images.
    alike = [top for top in tops[::-1] if top.tags["recipe"] == recipe]
    same = [run for top in alike for run in _members(top, stores)]
    extent = _extent(group.members[-1])
    other = [run.where for run in same if not run.why_no_training and _extent(run) != extent]
    passed_over = f"passed over, of other epochs or images: {', '.join(other)}"
    return [run for run in same if run.where not in other], [passed_over] if other else []


def _finished(tops: Sequence[StoredRun], stores: Stores) -> Iterator[Group]:
    """The groups of the finished runs that have trainings, read one by one."""
    for top in tops:
        if top.status == FINISHED:
            trainings = [run for run in _members(top, stores) if not run.why_no_training]
            if trainings:
                yield Group(top, trainings)


def _extent(run: StoredRun) -> tuple[int, int]:
    return run.config.epochs, run.config.subset


def _members(run: StoredRun, stores: Stores) -> list[StoredRun]:
    """The trainings of a parent run, oldest first; of any other run, the run itself."""
    if not run.why_no_training:
        return [run]
    reused, missing = stores.get(names_in(run.tags.get(tags.REUSED, "")))
    if missing:
        raise UserError(
            f"{run.name}, run {run.where}, has reused runs that {stores} lacks: name their store "
            f"as stores, or delete that run ({missing})"
        )
    return (reused + stores.nested(run.run_id)) or [run]


def _comparable(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """The runs that can be compared, each Config once, and a line for each one left out."""
    left_out = []
    newest: dict[Config, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (run.status == FINISHED, run.start_time or 0)):
        if run.deleted:
            left_out.append(f"left out, deleted: {run.where}")
        elif later := run.tags.get(tags.CONTINUED_IN):
            later = printable(later, 100)
            left_out.append(f"left out, interrupted and continued in {later}: {run.where}")
        elif run.why_no_training:
            left_out.append(f"left out, {run.why_no_training}: {run.where}")
        else:
            config = replace(run.config, recipe="")
            if older := newest.get(config):
                kind = "run again since" if older.status == FINISHED else "not finished, run again"
                left_out.append(f"left out, {kind} with the same Config: {older.where}")
            newest[config] = run
    # Test and validation accuracies cannot be compared: keep the test accuracies.
    held = [config for config in newest if config.validation]
    if 0 < len(held) < len(newest):
        newest = {config: run for config, run in newest.items() if not config.validation}
        left_out.append(f"left out, evaluated on validation images: {counted(len(held), 'run')}")
    kept = {run.run_id for run in newest.values()}
    return list({run.run_id: run for run in runs if run.run_id in kept}.values()), left_out


def _frame(runs: list[StoredRun], stores: Stores) -> pd.DataFrame:
    """The histories of trainings; a run without an epoch has no row."""
    splits = {run.config.evaluated for run in runs}
    metrics = [m for m in METRICS if m.partition("_")[0] not in {"test", "validation"} - splits]
    points = stores.points(runs, metrics).sort_values("timestamp", kind="stable")
    points = points.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    spans = points.groupby("run_id")["epoch"].agg(["min", "max"]).T.to_dict("list")
    # Infinity comes back from a database as the largest number.
    finite = points["value"].abs() < sys.float_info.max
    points["value"] = points["value"].where(finite)
    lost = points[~finite & points["metric"].str.endswith(("loss", "accuracy"))]
    first = lost.groupby("run_id")["epoch"].min()
    table = points.pivot(index=["run_id", "epoch"], columns="metric", values="value")
    about = pd.DataFrame([described(run) for run in runs])
    last = {run_id: epochs[-1] for run_id, epochs in spans.items()}
    about["diverged"] = [first.get(r.run_id, _diverged(r, last.get(r.run_id, 0))) for r in runs]
    return about.merge(table.reindex(columns=METRICS).reset_index(), on="run_id")


def _diverged(run: StoredRun, last: int) -> int:
    """The epoch that the tag `diverged` names, or the last one; -1 without a tag that says so."""
    text = run.tags.get("diverged", "").lower()
    number = text.removeprefix("epoch ")
    epoch = min(int(number), last) if tags.NUMBER.fullmatch(number) else last
    return -1 if text in ("", "0", "false", "no") else epoch


def described(run: StoredRun) -> dict[str, int | float | str]:
    """The columns of a training's rows but epoch and METRICS."""
    values: dict[str, int | float | str] = {
        # Anyone may set a tag, so a parameter with the same name takes precedence.
        **{k: printable(tag, LONGEST_TAG) for k, tag in run.tags.items() if k[:7] != "mlflow."},
        **{name: _number_in(text) for name, text in run.params.items()},
        **vars(run.config),
        "run_id": run.run_id,
        "store": run.store,
        "run_name": printable(run.name, LONGEST_TAG),
        "status": run.status,
        "start_time": run.start_time,
        "experiment_id": run.experiment_id,
    }
    return {name: value for name, value in values.items() if name not in ("epoch", *METRICS)}


def _number_in(text: str) -> int | float | str:
    """The number in a text; the text if there is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
