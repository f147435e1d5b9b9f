"""The runs behind a hand-in: chosen in the store, kept as CSV, and read back from it."""

import io
import math
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

import pandas as pd

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Training
from eml.analysis.fairness import LOGGED
from eml.analysis.labels import LAST, MEDIAN
from eml.config import Config, ConfigError
from eml.errors import UserError, printable
from eml.handin.sheet import Assignment, Rule, Values, judged
from eml.models.own_code import read, sha256_of
from eml.recipes import RECIPES
from eml.tracking import find
from eml.tracking.find import Others, Stores
from eml.tracking.history import METRICS, Group, described, finished_groups, history_of, members
from eml.tracking.readers import StoredRun
from eml.tracking.tags import CODE, CODE_CHECK, COMMAND, JOB

CONFIG = {field.name: field.type for field in fields(Config) if field.name != "recipe"}
DEFAULTS = {f.name: str(f.default) for f in fields(Config) if f.default is not MISSING}
REFERENCE = "reference_accuracy"  # the final one of eml's network in the place of the user's
OWN_CODE = "own_code/"  # folder in the zip
# The columns of a CSV.
ABOUT = (
    "run_id",
    "run_name",
    "status",
    "recipe",
    "store",
    "mlflow",
    "dataset_digest",
    JOB,
    COMMAND,
    CODE,
    CODE_CHECK,
)
REST = ("test_images", "validation_images", "parameters", REFERENCE, "start_time", "epoch")
COLUMNS = list(dict.fromkeys((*ABOUT, "diverged", *CONFIG, *LOGGED, *REST, *METRICS)))
NUMBERS = [name for name, kind in CONFIG.items() if kind is not str]
NUMBERS += ["scaling_mean", "scaling_std", *REST, *METRICS]


@dataclass(frozen=True)
class Evidence:
    """The histories of one recipe's runs, as its CSV holds them."""

    csv: bytes
    final: Comparison  # of the trainings in the figures
    tried: Comparison  # of the trainings of a search, evaluated on validation images; may be empty

    @property
    def trainings(self) -> list[Training]:
        """Those of both."""
        return [*self.final.trainings, *self.tried.trainings]

    @property
    def values(self) -> list[Values]:
        """The parameters and tags of every training."""
        return [training.values for training in self.trainings]


def csv_of(history: pd.DataFrame) -> bytes:
    """Write a history as CSV: its COLUMNS, whatever else a store has."""
    csv: str = history.reindex(columns=COLUMNS).to_csv(index=False, lineterminator="\n")
    return csv.encode()


def of_csv(csv: bytes, recipe: str, where: str) -> Evidence:
    """Read the evidence in a CSV. Raises UserError if it is no file of this kind."""
    try:
        # Numbers as text first: pandas' own parser is not exact to the last digit.
        texts = pd.read_csv(io.BytesIO(csv), dtype=str, keep_default_na=False, na_values=[""])
        frame = _checked(texts.reindex(columns=COLUMNS).astype(object))
    except (ConfigError, ValueError, OverflowError) as error:
        raise UserError(printable(f"{where} holds no histories: {error}", 300)) from error
    of_search = frame["validation"] > 0
    if of_search.all():
        of_search = ~of_search
    final, tried = (frame[rows].reset_index(drop=True) for rows in (~of_search, of_search))
    about = RECIPES[recipe].exercise, RECIPES[recipe].varies
    return Evidence(csv, Comparison(final, LAST, *about), Comparison(tried, MEDIAN, *about))


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a history from the texts of COLUMNS. Raises ValueError if it is none."""
    frame = frame.fillna(DEFAULTS)
    for values in frame[["recipe", *CONFIG]].drop_duplicates().to_dict("records"):
        Config.from_stored(values)  # raises ConfigError
    whole = ["epoch", *(name for name, kind in CONFIG.items() if kind is int)]
    frame = frame.astype(dict.fromkeys(NUMBERS, float))
    frame = frame.astype(dict.fromkeys(whole, int))  # raises ValueError for NaN
    metrics = frame[METRICS].fillna(0)
    highest = [1 if name.endswith("accuracy") else sys.float_info.max for name in METRICS]
    possible = frame["epoch"].between(0, frame["epochs"]) & frame["run_id"].notna()
    if frame.empty or not (possible & ((metrics >= 0) & (metrics <= highest)).all(axis=1)).all():
        raise ValueError("no rows, or a number that no training logs")
    # Without a column's values there is no column, as in a history of the store.
    return frame[[name for name in frame if name in METRICS or frame[name].notna().any()]]


def from_store(assignment: Assignment, run_ids: Sequence[str], others: Others) -> Evidence:
    """Load the evidence for an assignment of a sheet; print a line for each run that is left out.

    run_ids: empty: the group that meets the sheet's rules. others: stores of others. Raises
    UserError if the stores lack a run, or if no group can be taken, or several.
    """
    ids: dict[bool, list[str]] = {False: [], True: []}  # those of a search apart
    runs = members(run_ids, Stores(others)) if run_ids else choose(assignment, others)
    for run in runs:
        ids[run.config.validation > 0].append(run.run_id)
    frames = [history_of(of_split, others) for of_split in ids.values() if of_split]
    history = pd.concat(frames, ignore_index=True)
    own = {run.run_id: _reference(run.config, others) for run in runs if run.config.code_sha256}
    history[REFERENCE] = history["run_id"].map(own).astype(float)
    return of_csv(csv_of(history), assignment.recipe, assignment.recipe)


def _reference(config: Config, others: Others) -> float:
    """The final accuracy of eml's network in the place of the user's; NaN if it was not trained."""
    name, eml = f"final_{config.evaluated}_accuracy", replace(config, code_sha256="")
    run = find.finished_training(eml, others=others)
    points = Stores(others).points([run] if run else [], [name])
    return float(points["value"].iloc[-1]) if len(points) else math.nan


def own_path(values: Values) -> str:
    """Return the path in the zip of the user's own code that a run trained; "" for eml's."""
    sha256, name = values["code_sha256"], Path(str(values.get(CODE))).name
    return f"{OWN_CODE}{sha256[:8]}/{name}" if sha256 else ""


def own_code(values: Values, others: Others) -> bytes:
    """Read the code that a run trained, from its store or its path. Raises UserError."""
    sha256, path = values["code_sha256"], str(values.get(CODE))
    source = Stores(others).code(values["run_id"])
    return source if source and sha256 == sha256_of(source) else read(path, sha256)


def choose(assignment: Assignment, others: Others = ()) -> list[StoredRun]:
    """Choose the trainings of the newest group that meets all of the sheet's rules.

    Else of the newest that meets those without which the hand-in is a draft, else of the newest.
    Groups of the user's own code come before those of eml's.
    """
    recipe, stores = assignment.recipe, Stores(others)
    groups = _merged(finished_groups(recipe, stores))
    if not groups:
        raise UserError(f"no finished run of {recipe} in {stores}: `eml {recipe}` trains it")
    groups = [group for group in groups if group.members[0].config.code_sha256] or groups
    needed = [rule for rule in assignment.rules if rule.draft]
    taken = meeting_groups(groups, assignment.rules) or meeting_groups(groups, needed) or groups
    return taken[0].members


def meeting_groups(groups: Sequence[Group], rules: Sequence[Rule]) -> list[Group]:
    """Return the groups that break none of these rules, newest first."""
    return [
        group
        for group in groups
        if not any(why for _, why in judged(rules, list(map(described, group.members))))
    ]


def _merged(groups: Sequence[Group]) -> list[Group]:
    """Join the groups of single trainings that differ in their seed alone; of a seed the newest."""
    merged = [group for group in groups if len(group.members) > 1]
    alike: dict[Config, list[Group]] = {}
    for group in (group for group in groups if len(group.members) == 1):
        key = replace(group.members[0].config, recipe="", seed=0)
        alike.setdefault(key, []).append(group)
    for same in alike.values():
        by_seed = {member.config.seed: member for group in same[::-1] for member in group.members}
        merged.append(Group(same[0].top, list(by_seed.values())))
    return sorted(merged, key=lambda group: group.top.start_time, reverse=True)
