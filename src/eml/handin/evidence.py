"""The runs behind a hand-in: chosen in the store, kept as CSV, and read back from it."""

import io
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime

import pandas as pd

from eml.analysis.fairness import LOGGED
from eml.analysis.options import Selection
from eml.config import Config, ConfigError
from eml.errors import UserError, printable
from eml.handin.sheet import Rule, Trainings, broken
from eml.tracking.history import METRICS, described, load_history
from eml.tracking.selection import Group, finished_groups, members, present
from eml.tracking.stored_run import StoredRun
from eml.tracking.stores import Others, Stores
from eml.tracking.tags import JOB, PRUNED_AFTER
from eml.training.loop import EpochRecord

CONFIG = {field.name: field.type for field in fields(Config) if field.name != "recipe"}
NUMBERS = [
    *(name for name, kind in CONFIG.items() if kind is not str),
    "scaling_mean",
    "scaling_std",
    "test_images",
    "validation_images",
    "parameters",
    "start_time",
    PRUNED_AFTER,
    "epoch",
    *METRICS,
]
TEXTS = [
    *("run_id", "run_name", "status", "recipe", "store"),
    *(name for name, kind in CONFIG.items() if kind is str),
    *(name for name in LOGGED if name not in NUMBERS),
    "mlflow",
    "dataset_digest",
    JOB,
]


class EvidenceError(UserError):
    """The runs of an exercise cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Evidence:
    """The histories of one recipe's runs, as its CSV holds them."""

    csv: bytes
    history: pd.DataFrame  # of the runs in the figures
    tried: pd.DataFrame  # of the trainings of a search, evaluated on validation images

    @property
    def run_ids(self) -> list[str]:
        ids = [*self.history["run_id"], *self.tried.get("run_id", ())]
        return list(dict.fromkeys(ids))


def csv_of(history: pd.DataFrame) -> bytes:
    """The CSV of a history: the columns TEXTS and NUMBERS, whatever else a store has."""
    columns = history.reindex(columns=[*TEXTS, *NUMBERS])
    return columns.to_csv(index=False, lineterminator="\n").encode()


def of_csv(csv: bytes, where: str) -> Evidence:
    """The evidence in a CSV. Raises EvidenceError if it is no file of this kind."""
    try:
        # Numbers as text first: pandas' own parser is not exact to the last digit.
        frame = pd.read_csv(io.BytesIO(csv), dtype=str, keep_default_na=False, na_values=[""])
        required = [f.name for f in (*fields(Config), *fields(EpochRecord)) if f.default is MISSING]
        frame[["run_id", *required]]  # raises KeyError; other columns may be younger than the file
        for field in fields(Config):
            if field.name not in frame:
                frame[field.name] = str(field.default)
        frame = frame.reindex(columns=[*TEXTS, *NUMBERS])
        texts = [name for name, kind in CONFIG.items() if kind is str]
        frame[texts] = frame[texts].fillna("")
        for values in frame[["recipe", *CONFIG]].drop_duplicates().to_dict("records"):
            Config.from_stored(values)
        for name in NUMBERS:
            frame[name] = frame[name].astype(object).map(float)
        whole = ["epoch", *(name for name, kind in CONFIG.items() if kind is int)]
        frame = frame.astype(dict.fromkeys(whole, int))
        if frame.empty or not _is_possible(frame):
            raise ValueError("no rows, or a number that no training logs")
    except (ConfigError, KeyError, ValueError, OverflowError) as error:
        raise EvidenceError(printable(f"{where} holds no histories: {error}", 300)) from error
    # Without a column's values there is no column, as in a history of the store.
    named = [name for name in frame if name in METRICS or frame[name].notna().any()]
    return Evidence(csv, *_apart(frame[named]))


def _is_possible(frame: pd.DataFrame) -> bool:
    """Whether a training can have logged these epochs and metrics."""
    metrics = frame[METRICS].fillna(0)
    highest = [1 if name.endswith("accuracy") else sys.float_info.max for name in METRICS]
    epochs = frame["epoch"].between(0, frame["epochs"])
    return bool(epochs.all() and ((metrics >= 0) & (metrics <= highest)).all(axis=None))


def from_store(
    trainings: Trainings, given: Sequence[str], where: str, others: Others = ()
) -> tuple[Evidence, list[str]]:
    """The evidence for some trainings of a sheet, and a line for each run that was left out.

    given: run ids; empty: the group that meets the sheet's rules. where: the place of `given` in
    the form. others: stores of others. Raises EvidenceError if no group can be taken, or several.
    """
    runs = _given(given, where, others) if given else choose(trainings, where, others)
    return _load(runs, trainings.recipe, others)


def of_runs(
    run_ids: Sequence[str], recipe: str, others: Others = ()
) -> tuple[Evidence | None, list[str]]:
    """The evidence of the stores for these runs, and the ids that they lack; None without any."""
    runs = [run for run in present(run_ids, others) if not run.deleted and not run.why_no_training]
    missing = [run_id for run_id in run_ids if run_id not in {run.run_id for run in runs}]
    return (_load(runs, recipe, others)[0] if runs else None), missing


def _load(runs: Sequence[StoredRun], recipe: str, others: Others) -> tuple[Evidence, list[str]]:
    by_split: dict[bool, list[str]] = {False: [], True: []}
    for run in runs:
        by_split[run.config.validation != 0].append(run.run_id)
    selections = [Selection(runs=",".join(ids)) for ids in by_split.values() if ids]
    loaded = [load_history(selection, others) for selection in selections]
    history = pd.concat([frame for frame, _ in loaded], ignore_index=True)
    return of_csv(csv_of(history), recipe), [line for _, lines in loaded for line in lines]


def _given(run_ids: Sequence[str], where: str, others: Others) -> list[StoredRun]:
    runs = members(run_ids, others)
    for run in runs:
        if run.deleted:
            raise EvidenceError(
                f"{where}: run {run.where} was deleted: `mlflow runs restore --run-id "
                f"{run.run_id}` brings it back, or give another run"
            )
    return runs


def choose(trainings: Trainings, where: str, others: Others = ()) -> list[StoredRun]:
    """The trainings of the one group that meets the sheet's rules best.

    A group that meets all rules comes first, then one that meets those without which the hand-in
    is a draft; of two such groups none is taken. Else the newest group.
    """
    recipe = trainings.recipe
    groups = _merged(finished_groups(recipe, others))
    if not groups:
        raise EvidenceError(
            f"no finished run of {recipe} in {Stores(others)}: train with `eml {recipe}`, name "
            "other stores as stores, or set hand_in = false"
        )
    for rules in (trainings.rules, [rule for rule in trainings.rules if rule.draft]):
        meeting = meeting_groups(groups, rules)
        if len(meeting) > 1:
            raise EvidenceError(
                f"{where}: {len(meeting)} groups of runs of {recipe} meet the sheet's rules, write "
                f"one of them as runs: {'; or '.join(map(_named, meeting))}"
            )
        if meeting:
            return meeting[0].members
    return groups[0].members


def meeting_groups(groups: Sequence[Group], rules: Sequence[Rule]) -> list[Group]:
    """The groups that break none of these rules, newest first.

    A group whose trainings another group has reused does not count.
    """
    meeting = [group for group in groups if not broken(rules, *_rows(group))]
    ids = [{member.run_id for member in group.members} for group in meeting]
    return [
        group
        for i, group in enumerate(meeting)
        if not any(ids[i] < other for other in ids) and ids[i] not in ids[:i]
    ]


def _merged(groups: Sequence[Group]) -> list[Group]:
    """The groups; single trainings that differ in their seed alone become one group."""
    merged = [group for group in groups if len(group.members) > 1]
    singles: dict[Config, dict[int, list[Group]]] = {}  # by the Config without seed, and the seed
    for group in groups:
        if len(group.members) == 1:
            config = group.members[0].config
            key = replace(config, recipe="", seed=0)
            singles.setdefault(key, {}).setdefault(config.seed, []).append(group)
    for by_seed in singles.values():
        same = [group for groups in by_seed.values() for group in groups]
        if len(same) == len(by_seed):
            same = [Group(same[0].top, [member for group in same for member in group.members])]
        merged += same
    return sorted(merged, key=lambda group: group.top.start_time, reverse=True)


def _rows(group: Group) -> tuple[pd.DataFrame, pd.DataFrame]:
    return _apart(pd.DataFrame([described(member) for member in group.members]))


def _apart(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the runs in the figures, and those of the trainings of a search."""
    of_search = rows["validation"] > 0
    if of_search.all():
        of_search = ~of_search
    return rows[~of_search].reset_index(drop=True), rows[of_search].reset_index(drop=True)


def _named(group: Group) -> str:
    when = datetime.fromtimestamp(group.top.start_time / 1000).isoformat(" ", "minutes")
    hardware = {str(described(member).get("hardware", "")) for member in group.members}
    ids = group.members if group.top in group.members else [group.top]
    quoted = ", ".join(f'"{run.run_id}"' for run in ids)
    stores = "".join(f" of {store}" for store in {run.store: None for run in ids} if store)
    return f"[{quoted}]{stores} of {when}, {', '.join(sorted(hardware))}"
