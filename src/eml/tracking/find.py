"""Finds runs in the store here and in stores of others, read as one; others are never changed."""

import os
import re
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import mlflow
import pandas as pd
import requests
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from eml.config import Config, one_of
from eml.errors import UserError, printable
from eml.tracking import store, tags
from eml.tracking.calls import StoreError, is_server, reason_of, store_call, uri
from eml.tracking.digests import training_digest
from eml.tracking.readers import COLUMNS, FINISHED, Reader, StoredRun, Wanted

Others = Sequence[Reader]  # of stores of others
T = TypeVar("T")


def names_in(text: str) -> list[str]:
    """The names in "a, b": of stores or metrics, or ids of runs."""
    return [name.strip() for name in text.split(",") if name.strip()]


def below(folder: Path, name: str) -> str:
    """The name of a store, with a relative path taken below `folder`."""
    return name if "://" in name else str(folder / Path(name).expanduser())


def open_others(names: Sequence[str], folder: Path = Path()) -> Others:
    """Readers of stores of others. A file is read as it is now: from a private copy.

    names: of files, of folders with an mlflow.db, or addresses of servers; relative paths are below
    `folder`. Raises StoreError if a store cannot be read.
    """
    return [_open(name, folder) for name in dict.fromkeys(names)]


def _open(name: str, folder: Path) -> Reader:
    label = printable(name)
    if is_server(name):
        store.ask(name, f"the tracking server {label}")
        return Reader(mlflow.MlflowClient(name), label)
    path = Path(below(folder, name.removeprefix("sqlite:///")))
    file = path / "mlflow.db" if path.is_dir() else path
    if not file.is_file():
        raise StoreError(
            f"there is no store {label}: give an mlflow.db, its folder, or the address of a server"
        )
    with ExitStack() as copied:
        copy = Path(copied.enter_context(tempfile.TemporaryDirectory()), "mlflow.db")
        store.back_up(file, copy, f"the store {label}")
        store.check(copy, f"the store {label}")
        read = Reader(mlflow.MlflowClient(store.sqlite_uri(copy)), label)
        weakref.finalize(read, copied.pop_all().close)
        return read


class Stores:
    """The store here, if there is one, and stores of others, read as one.

    Of a run that several of them hold the first counts: the store here before the others. Raises
    StoreError if one of the others cannot be read.
    """

    def __init__(self, others: Others = ()):
        self.readers = [*([Reader()] if store.is_there() else []), *others]

    def __str__(self) -> str:
        return ", ".join(read.name or uri() for read in self.readers)

    def search(self, wanted: Wanted, experiment: str | None = None) -> list[StoredRun]:
        """The runs that have these tags, or that MLflow's filter string selects, newest first.

        experiment: a name, or "" for the active one; None searches all. Raises UserError if no
        store has the experiment.
        """
        if experiment is not None:
            experiment = _not_deleted(experiment or self.active_experiment)
            one_of("experiment", experiment, [name for name, _ in self._experiments])

        def matching(read: Reader) -> list[StoredRun]:
            ids = [id_ for name, id_ in read.experiments.items() if experiment in (None, name)]
            return read.search(ids, wanted) if ids else []

        return sorted(self._runs(matching), key=lambda run: -(run.start_time or 0))

    def nested(self, run_id: str) -> list[StoredRun]:
        """The runs nested in a run, oldest first."""
        return self.search({tags.PARENT: run_id})[::-1]

    def get(self, run_ids: Sequence[str]) -> tuple[list[StoredRun], str]:
        """The runs with these ids, or first digits of ids, in this order; and the ids of no run."""
        ids = [self._full_id(run_id) for run_id in run_ids]
        runs = {run.run_id: run for run in self._runs(lambda read: read.get(ids))}
        missing = ", ".join(sorted(set(ids) - runs.keys()))
        return [runs[run_id] for run_id in ids if run_id in runs], printable(missing, 200)

    def code(self, run_id: str) -> bytes | None:
        """The user's own code that a run has trained; None if no store holds it."""
        for read in self.readers:
            with suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as folder:
                logged = Path(read.client.download_artifacts(run_id, tags.CODE, folder))
                return next(logged.iterdir()).read_bytes()
        return None

    def points(self, runs: Sequence[StoredRun], metrics: Sequence[str]) -> pd.DataFrame:
        """All points of these metrics, a row for each, with the columns COLUMNS."""

        def logged(read: Reader) -> pd.DataFrame:
            return read.points([run.run_id for run in runs if run.store == read.name], metrics)

        full = [frame for frame in self._of_all(logged) if len(frame)]
        return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=COLUMNS)

    @property
    def active_experiment(self) -> str:
        """The name of the experiment of new runs, which may not exist yet."""
        if active := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return next((name for name, id_ in self._experiments if id_ == active), active)
        return os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")

    @property
    def _experiments(self) -> list[tuple[str, str]]:
        """The names and ids of the experiments of all stores."""
        return [pair for ids in self._of_all(lambda r: r.experiments) for pair in ids.items()]

    def _full_id(self, start: str) -> str:
        """The only id that begins with `start`; `start` itself if there is none."""
        if not re.fullmatch("[0-9a-f]{4,31}", start):
            return start
        ids = sorted(run.run_id for run in self.search(f"attributes.run_id LIKE '{start}%'"))
        if len(ids) > 1:
            raise StoreError(f"several runs begin with {start}: give one of {', '.join(ids[:5])}")
        return ids[0] if ids else start

    def _runs(self, read: Callable[[Reader], list[StoredRun]]) -> list[StoredRun]:
        """The runs that all readers return; of several with one id the first, unless deleted."""
        by_id: dict[str, StoredRun] = {}
        for run in (run for runs in self._of_all(read) for run in runs):
            if run.run_id not in by_id or by_id[run.run_id].deleted:
                by_id[run.run_id] = run
        return list(by_id.values())

    def _of_all(self, read: Callable[[Reader], T]) -> list[T]:
        """The result for each reader. An error of another store names that store."""
        results = []
        for reader in self.readers:
            try:
                results.append(read(reader))
            except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
                if not reader.name:
                    raise  # store_call names the store here
                reason = printable(f"the store {reader.name} cannot be read: {reason_of(error)}")
                raise StoreError(reason) from error
        return results


@store_call
def search(wanted: Wanted, others: Others = ()) -> list[StoredRun]:
    """The runs in all experiments and stores that have these tags, or of a filter, newest first."""
    return Stores(others).search(wanted)


@store_call
def get(run_id: str) -> StoredRun:
    """The run of the store here with this id, or the only one whose id begins with these digits."""
    runs, _ = Stores().get([run_id])
    if not runs:
        raise UserError(f"no run {printable(run_id, 100)} in the store {uri()}")
    return runs[0]


@store_call
def experiment_of(parent: str) -> str:
    """The id of the experiment of a new run; "" if it does not exist yet. parent: may be "".

    Raises UserError if the experiment is deleted.
    """
    if parent:
        return get(parent).experiment_id
    stores = Stores()
    name = _not_deleted(stores.active_experiment)
    return next((read.experiments.get(name, "") for read in stores.readers), "")


def _not_deleted(name: str) -> str:
    here = mlflow.MlflowClient() if store.is_there() else None
    for one in here.search_experiments(ViewType.DELETED_ONLY) if here else ():
        if name in (one.name, one.experiment_id):
            raise UserError(
                f"the experiment {one.name} is deleted: `mlflow experiments restore -x "
                f"{one.experiment_id}` brings it back, or give another MLFLOW_EXPERIMENT_NAME"
            )
    return name


def children(parent: str) -> dict[str, StoredRun]:
    """The trainings nested in a run, by training digest: of each the newest."""
    runs = search({tags.PARENT: parent})[::-1]
    return {digest: run for run in runs if (digest := run.tags.get(tags.TRAINING_DIGEST))}


def threads_beside(parent: str, validation: int) -> int:
    """The threads of a run's oldest training on the CPU with this `validation`; 0 for none."""
    same = {"device_type": "cpu", "validation": str(validation)}.items()
    beside = [run for run in search({tags.PARENT: parent})[::-1] if same <= run.params.items()]
    return next((n for run in beside if (n := tags.number_in(run.tags, "threads")) > 0), 0)


@store_call
def finished_training(
    config: Config, parent: str = "", others: Others = (), like: Mapping[str, str] | None = None
) -> StoredRun | None:
    """The newest finished run, in any experiment and store, of the training with this Config.

    A run counts only if it has the parameters and a result besides the tag. parent: of this run.
    like: its other tags.
    """
    stores = Stores(others)
    result = f"final_{config.evaluated}_accuracy"
    wanted = {tags.TRAINING_DIGEST: training_digest(config)} | dict(like or {})
    wanted |= {tags.PARENT: parent} if parent else {}
    for run in stores.search(wanted):
        is_training = run.status == FINISHED and not run.why_no_training
        if is_training and ("diverged" in run.tags or len(stores.points([run], [result]))):
            return run
    return None
