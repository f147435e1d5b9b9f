"""Selects the runs to compare."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eml.analysis.options import SelectionOptions
from eml.errors import UserError
from eml.recipes import RECIPES
from eml.recipes.options import SharedOptions
from eml.tracking.calls import store_call
from eml.tracking.parameters import CONFIG, config_values, lacks, shown
from eml.tracking.stored_run import FINISHED, StoredRun
from eml.tracking.stores import Others, Stores
from eml.tracking.tags import CONTINUED_IN, PARENT, REUSED

SHEET_EPOCHS = SharedOptions.epochs


class SelectionError(UserError):
    """There is nothing to compare; the message says why."""


class NothingFinishedError(SelectionError):
    """No run was named, and the store holds no finished training."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which runs to compare; by default the newest finished group of trainings.

    A group is the trainings of a sweep, or all trainings of a recipe of one training.
    """

    experiment: str = ""  # name; by default the one that `mlflow run` would use here
    recipe: str = ""
    parent: str = ""  # a run id
    runs: Sequence[str] = ()  # run ids; a parent's id stands for its trainings
    filter: str = ""  # as in MLflow's search
    of_the_sheet: bool = False  # prefer a group with the epochs and images that the sheets ask for
    stores: Others = ()  # read beside the store here

    def __post_init__(self):
        if (self.runs or self.parent) and (self.experiment or self.recipe or self.filter):
            raise SelectionError("with runs or parent, experiment, recipe and filter say nothing")
        if self.recipe and self.recipe not in RECIPES:
            raise SelectionError(f"recipe={self.recipe}: give one of {', '.join(RECIPES)}")


def selected_by(options: SelectionOptions, plot: str = "", stores: Others = ()) -> Selection:
    """The selection that a command's options describe, from the store here and these.

    plot: the recipe whose figures are wanted; its runs are taken unless others are named. Raises
    UserError if `runs` holds no id.
    """
    run_ids = ids_in(options.runs)
    if options.runs and not run_ids:
        raise UserError(f"runs={options.runs}: give run ids separated by commas")
    named = options.runs or options.parent or options.filter
    return Selection(
        experiment=options.experiment,
        recipe=options.recipe or ("" if named else plot),
        parent=options.parent,
        runs=run_ids,
        filter=options.filter,
        of_the_sheet=bool(plot),
        stores=stores,
    )


def ids_in(text: str) -> list[str]:
    """The run ids of "a, b"."""
    return [run_id.strip() for run_id in text.split(",") if run_id.strip()]


def select(selection: Selection, stores: Stores) -> tuple[list[StoredRun], list[str]]:
    """The selected runs, oldest first or in the order given, and a line for each passed over."""
    if selection.runs or selection.parent:
        ids = [*selection.runs, selection.parent] if selection.parent else selection.runs
        ids = [stores.full_id(id_) for id_ in ids]
        found = stores.get(ids)
        if missing := [id_ for id_ in ids if id_ not in {run.run_id for run in found}]:
            raise SelectionError(f"no run {shown(', '.join(missing))} in {stores}")
        return [member for run in found for member in _members(run, stores)], []
    if selection.filter:
        found = stores.search(selection.filter, selection.experiment)[::-1]
        return [run for run in found if selection.recipe in ("", run.tags.get("recipe"))], []
    tags = {"recipe": selection.recipe} if selection.recipe else {}
    found = stores.find(tags, selection.experiment)
    return _newest_group(found, stores, selection.of_the_sheet)


class Group(NamedTuple):
    """A finished top-level run of a recipe, and its trainings."""

    top: StoredRun
    members: list[StoredRun]


@store_call(held=False)
def finished_groups(recipe: str, others: Others = ()) -> list[Group]:
    """The finished groups of a recipe in all experiments and stores, newest first."""
    stores = Stores(others)
    tops = [run for run in stores.find({"recipe": recipe}) if PARENT not in run.tags]
    return [Group(*group) for group in _finished_groups(tops, stores)]


@store_call(held=False)
def members(run_ids: Sequence[str], others: Others = ()) -> list[StoredRun]:
    """The trainings with these ids; a parent's id stands for its trainings."""
    return select(Selection(runs=run_ids), Stores(others))[0]


@store_call(held=False)
def present(run_ids: Sequence[str], others: Others = ()) -> list[StoredRun]:
    """Those of these runs that a store has."""
    return Stores(others).get(run_ids)


def _newest_group(
    runs: list[StoredRun], stores: Stores, of_the_sheet: bool
) -> tuple[list[StoredRun], list[str]]:
    """The trainings of the newest finished group, and a line for what was passed over.

    of_the_sheet: prefer a group that is trained as the sheets ask.
    """
    tops = [run for run in runs if PARENT not in run.tags and run.tags.get("recipe") in RECIPES]
    seen = []
    for group in _finished_groups(tops, stores):
        seen.append(group)
        if not of_the_sheet or all(map(meets_the_sheet, group[1])):
            break
    else:  # no group, or none of the sheet: the newest
        seen = seen[:1]
    if not seen:
        unfinished = f", {len(tops)} not finished" if tops else ""
        raise NothingFinishedError(
            f"no finished training in {stores}{unfinished}: train first, "
            "or give experiment, recipe, parent, runs or filter"
        )
    *passed_over, (newest, members) = seen
    lines = [
        f"passed over, a later try with other than {SHEET_EPOCHS} epochs or all images: "
        f"{run.name}, run {run.where}"
        for run, _ in passed_over
    ]
    recipe = newest.tags["recipe"]
    if any(run.tags.get("recipe") != recipe for run in members):
        return members, lines
    # A recipe of one training: all its trainings form one group, however launched, unless they
    # differ from the newest in epochs or images.
    same = [
        run for top in tops[::-1] if top.tags["recipe"] == recipe for run in _members(top, stores)
    ]
    extent = _extent(members[-1])
    other = [run.where for run in same if not lacks(run) and _extent(run) != extent]
    if other and not passed_over:
        lines.append(f"passed over, of other epochs or images: {', '.join(other)}")
    return [run for run in same if run.where not in other], lines


def _finished_groups(
    tops: list[StoredRun], stores: Stores
) -> Iterator[tuple[StoredRun, list[StoredRun]]]:
    """The finished runs that have trainings, with these; newest first, read one by one."""
    for run in tops:
        if run.status == FINISHED:
            members = [member for member in _members(run, stores) if not lacks(member)]
            if members:
                yield run, members


def meets_the_sheet(run: StoredRun) -> bool:
    """Whether a training has the epochs and the images that the sheets ask for."""
    return _extent(run) == (SHEET_EPOCHS, 0)


def _extent(run: StoredRun) -> tuple:
    values = config_values(run)
    return values["epochs"], values["subset"]


def _members(run: StoredRun, stores: Stores) -> list[StoredRun]:
    """The trainings of a parent run, oldest first; of any other run, the run itself.

    Raises SelectionError if the run has reused a run that no store has.
    """
    if not lacks(run):
        return [run]
    ids = [run_id for run_id in run.tags.get(REUSED, "").split(",") if run_id]
    reused = stores.get(ids)
    if missing := set(ids) - {each.run_id for each in reused}:
        raise SelectionError(
            f"{run.name}, run {run.where}, has reused runs that {stores} lacks: name their store "
            f"as stores, or delete that run ({shown(', '.join(sorted(missing)))})"
        )
    return (reused + stores.nested(run.run_id)) or [run]


def comparable(runs: list[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """The runs that can be compared, each Config once, and a line for each one left out."""
    left_out = []
    newest: dict[tuple, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (run.status == FINISHED, run.start_time or 0)):
        if run.deleted:
            left_out.append(f"left out, deleted: {run.where}")
        elif CONTINUED_IN in run.tags:
            later = shown(run.tags[CONTINUED_IN])
            left_out.append(f"left out, interrupted and continued in {later}: {run.where}")
        elif why := lacks(run):
            left_out.append(f"left out, {why}: {run.where}")
        else:
            # The values of the frame: runs that are equal there must not count twice.
            values = config_values(run)
            key = tuple(values[name] for name in CONFIG)
            if older := newest.get(key):
                kind = "run again since" if older.status == FINISHED else "not finished, run again"
                left_out.append(f"left out, {kind} with the same Config: {older.where}")
            newest[key] = run
    on_validation = [run for run in newest.values() if config_values(run)["validation"]]
    if len(on_validation) < len(newest):
        # Test and validation accuracies cannot be compared: keep the test accuracies.
        if on_validation:
            ids = ", ".join(run.where for run in on_validation)
            left_out.append(f"left out, evaluated on validation images: {ids}")
        newest = {key: run for key, run in newest.items() if run not in on_validation}
    kept = {run.run_id for run in newest.values()}
    return list({run.run_id: run for run in runs if run.run_id in kept}.values()), left_out
