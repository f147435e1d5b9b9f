"""Selects the runs to compare."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from eml.analysis.options import Selection
from eml.config import Config, one_of
from eml.errors import UserError, printable
from eml.recipes import RECIPES
from eml.recipes.options import SharedOptions
from eml.tracking.calls import store_call
from eml.tracking.stored_run import FINISHED, StoredRun
from eml.tracking.stores import Others, Stores, names_in
from eml.tracking.tags import CONTINUED_IN, REUSED

SHEET_EPOCHS = SharedOptions.epochs


class SelectionError(UserError):
    """There is nothing to compare; the message says why."""


class NothingFinishedError(SelectionError):
    """No run was named, and the store holds no finished training."""


class Group(NamedTuple):
    """A finished top-level run of a recipe, and its trainings."""

    top: StoredRun
    members: list[StoredRun]

    @property
    def meets_the_sheet(self) -> bool:
        """Whether all trainings have the epochs and the images that the sheets ask for."""
        return {_extent(run.config) for run in self.members} == {(SHEET_EPOCHS, 0)}


def select(
    selection: Selection, stores: Stores, of_the_sheet: bool = False
) -> tuple[list[StoredRun], list[str]]:
    """The selected runs, oldest first or in the order given, and a line for each passed over.

    of_the_sheet: prefer a group that meets the sheets. Raises SelectionError if nothing can be
    selected.
    """
    recipe, named = selection.recipe, selection.runs or selection.parent
    if named and (selection.experiment or recipe or selection.filter):
        raise SelectionError("experiment, recipe and filter have no effect with runs or parent")
    if recipe:
        one_of("recipe", recipe, RECIPES)
    if named:
        ids = names_in(f"{selection.runs},{selection.parent}")
        if not ids:
            raise SelectionError(f"runs={selection.runs}: give run ids separated by commas")
        return _with_ids(ids, stores), []
    if selection.filter:
        runs = stores.search(selection.filter, selection.experiment)[::-1]
        return [run for run in runs if recipe in ("", run.tags.get("recipe"))], []
    tags = {"recipe": recipe} if recipe else {}
    return _newest_group(stores.find(tags, selection.experiment), stores, of_the_sheet)


@store_call
def members(run_ids: Sequence[str], others: Others = ()) -> list[StoredRun]:
    """The trainings with these ids; a parent's id stands for its trainings.

    Raises SelectionError if no store has a run.
    """
    return _with_ids(run_ids, Stores(others))


@store_call
def finished_groups(recipe: str, others: Others = ()) -> list[Group]:
    """The finished groups of a recipe in all experiments and stores, newest first."""
    stores = Stores(others)
    return list(_finished(_tops(stores.find({"recipe": recipe})), stores))


def _with_ids(run_ids: Sequence[str], stores: Stores) -> list[StoredRun]:
    ids = [stores.full_id(run_id) for run_id in run_ids]
    runs = stores.get(ids)
    if missing := set(ids) - {run.run_id for run in runs}:
        raise SelectionError(f"no run {printable(', '.join(sorted(missing)), 200)} in {stores}")
    return [member for run in runs for member in _members(run, stores)]


def _tops(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs of recipes that are not nested."""
    return [run for run in runs if not run.parent and run.tags.get("recipe") in RECIPES]


def _finished(tops: Sequence[StoredRun], stores: Stores) -> Iterator[Group]:
    """The groups of the finished runs that have trainings, read one by one."""
    for top in tops:
        if top.status == FINISHED:
            members = [run for run in _members(top, stores) if not run.why_no_training]
            if members:
                yield Group(top, members)


def _newest_group(
    runs: Sequence[StoredRun], stores: Stores, of_the_sheet: bool
) -> tuple[list[StoredRun], list[str]]:
    """The trainings of the newest finished group, and a line for each run passed over.

    of_the_sheet: prefer a group that meets the sheets.
    """
    tops = _tops(runs)
    groups: list[Group] = []
    for group in _finished(tops, stores):
        groups.append(group)
        if not of_the_sheet or group.meets_the_sheet:
            break
    else:  # no group, or none that meets the sheets: the newest
        del groups[1:]
    if not groups:
        unfinished = f", {len(tops)} not finished" if tops else ""
        raise NothingFinishedError(
            f"no finished training in {stores}{unfinished}: train first, "
            "or give experiment, recipe, parent, runs or filter"
        )
    *later, (newest, members) = groups
    passed_over = [
        f"passed over, a later try with other than {SHEET_EPOCHS} epochs or all images: "
        f"{run.name}, run {run.where}"
        for run, _ in later
    ]
    recipe = newest.tags["recipe"]
    if any(run.tags.get("recipe") != recipe for run in members):
        return members, passed_over
    # A recipe of one training: all its trainings form one group, however launched, unless they
    # differ from the newest in epochs or images.
    extent = _extent(members[-1].config)
    same = [
        run for top in tops[::-1] if top.tags["recipe"] == recipe for run in _members(top, stores)
    ]
    other = [run.where for run in same if not run.why_no_training and _extent(run.config) != extent]
    if other and not later:
        passed_over.append(f"passed over, of other epochs or images: {', '.join(other)}")
    return [run for run in same if run.where not in other], passed_over


def _extent(config: Config) -> tuple[int, int]:
    return config.epochs, config.subset


def _members(run: StoredRun, stores: Stores) -> list[StoredRun]:
    """The trainings of a parent run, oldest first; of any other run, the run itself.

    Raises SelectionError if the run has reused a run that no store has.
    """
    if not run.why_no_training:
        return [run]
    ids = names_in(run.tags.get(REUSED, ""))
    reused = stores.get(ids)
    if missing := set(ids) - {other.run_id for other in reused}:
        raise SelectionError(
            f"{run.name}, run {run.where}, has reused runs that {stores} lacks: name their store "
            f"as stores, or delete that run ({printable(', '.join(sorted(missing)), 200)})"
        )
    return (reused + stores.nested(run.run_id)) or [run]


def comparable(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """The runs that can be compared, each Config once, and a line for each one left out."""
    left_out = []
    newest: dict[Config, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (run.status == FINISHED, run.start_time or 0)):
        if run.deleted:
            left_out.append(f"left out, deleted: {run.where}")
        elif later := run.tags.get(CONTINUED_IN):
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
    on_validation = [config for config in newest if config.validation]
    if 0 < len(on_validation) < len(newest):
        ids = ", ".join([newest.pop(config).where for config in on_validation])
        left_out.append(f"left out, evaluated on validation images: {ids}")
    kept = {run.run_id for run in newest.values()}
    return list({run.run_id: run for run in runs if run.run_id in kept}.values()), left_out
