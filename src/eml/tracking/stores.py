"""The store here and stores of others, read as one; those of others are never changed."""

import os
import re
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import mlflow
import pandas as pd
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from eml.config import one_of
from eml.errors import printable
from eml.tracking.calls import StoreError, is_server, reason_of, uri
from eml.tracking.readers import COLUMNS, ClientReader, reader
from eml.tracking.store import ask_server, back_up, check, is_there, sqlite_uri
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import PARENT

Others = Sequence[ClientReader]  # of stores of others
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


def _open(name: str, folder: Path) -> ClientReader:
    label = printable(name)
    if is_server(name):
        client = mlflow.MlflowClient(name)
        ask_server(client, f"the tracking server {label}")
        return reader(client, label)
    path = Path(below(folder, name.removeprefix("sqlite:///")))
    file = path / "mlflow.db" if path.is_dir() else path
    if not file.is_file():
        raise StoreError(
            f"there is no store {label}: give an mlflow.db, its folder, or the address of a server"
        )
    with ExitStack() as copied:
        copy = Path(copied.enter_context(tempfile.TemporaryDirectory()), "mlflow.db")
        back_up(file, copy, f"the store {label}")
        check(copy, f"the store {label}")
        read = reader(mlflow.MlflowClient(sqlite_uri(copy)), label)
        weakref.finalize(read, copied.pop_all().close)
        return read


class Stores:
    """The store here, if there is one, and stores of others, read as one.

    Of a run that several of them hold the first counts: the store here before the others. Raises
    StoreError if one of the others cannot be read.
    """

    def __init__(self, others: Others = ()):
        self.readers = [*([reader()] if is_there() else []), *others]

    def __str__(self) -> str:
        return ", ".join(read.name or uri() for read in self.readers)

    def find(self, tags: Mapping[str, str], experiment: str | None = None) -> list[StoredRun]:
        """The runs with these tags, newest first.

        experiment: a name, or "" for the active one; None searches all. Raises UserError if no
        store has the experiment.
        """
        return self._newest_first(lambda read, ids: read.find(ids, tags), experiment)

    def search(self, filter_string: str, experiment: str | None = None) -> list[StoredRun]:
        """The runs that MLflow's filter string selects, newest first; experiment: as in find()."""
        return self._newest_first(lambda read, ids: read.search(ids, filter_string), experiment)

    def nested(self, run_id: str) -> list[StoredRun]:
        """The runs nested in a run, oldest first."""
        return self.find({PARENT: run_id})[::-1]

    def get(self, run_ids: Sequence[str]) -> list[StoredRun]:
        """Those of these runs that a store has, in this order."""
        runs = {run.run_id: run for run in self._runs(lambda read: read.get(run_ids))}
        return [runs[run_id] for run_id in run_ids if run_id in runs]

    def full_id(self, start: str) -> str:
        """The id of the only run whose id begins with `start`; `start` itself if there is none.

        Raises StoreError if several ids begin with it.
        """
        if not re.fullmatch("[0-9a-f]{4,31}", start):
            return start
        ids = sorted(run.run_id for run in self.search(f"attributes.run_id LIKE '{start}%'"))
        if len(ids) > 1:
            raise StoreError(f"several runs begin with {start}: give one of {', '.join(ids[:5])}")
        return ids[0] if ids else start

    def points(self, runs: Sequence[StoredRun], metrics: Sequence[str]) -> pd.DataFrame:
        """All points of these metrics, a row for each, with the columns COLUMNS."""

        def of(read: ClientReader) -> pd.DataFrame:
            ids = [run.run_id for run in runs if run.store == read.name]
            return read.points(ids, metrics) if ids else pd.DataFrame(columns=COLUMNS)

        full = [frame for frame in self._of_all(of) if len(frame)]
        return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=COLUMNS)

    def _newest_first(
        self, search: Callable[[ClientReader, list[str]], list[StoredRun]], experiment: str | None
    ) -> list[StoredRun]:
        name = None if experiment is None else self._experiment(experiment)

        def of(read: ClientReader) -> list[StoredRun]:
            ids = [id_ for known, id_ in read.experiments.items() if name in (None, known)]
            return search(read, ids) if ids else []

        return sorted(self._runs(of), key=lambda run: -(run.start_time or 0))

    def _experiment(self, name: str) -> str:
        """The name, or that of the active experiment. Raises UserError if no store has it."""
        known = [pair for of in self._of_all(lambda r: r.experiments) for pair in of.items()]
        active = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if active and not name:
            name = next((known_name for known_name, id_ in known if id_ == active), active)
        name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        one_of("experiment", name, dict(known))
        return name

    def _runs(self, read: Callable[[ClientReader], list[StoredRun]]) -> list[StoredRun]:
        """The runs that all readers return; of several with one id the first, unless deleted."""
        by_id: dict[str, StoredRun] = {}
        for run in (run for runs in self._of_all(read) for run in runs):
            if run.run_id not in by_id or by_id[run.run_id].deleted:
                by_id[run.run_id] = run
        return list(by_id.values())

    def _of_all(self, read: Callable[[ClientReader], T]) -> list[T]:
        """The result for each reader. An error of another store names that store."""
        results = []
        for reader_ in self.readers:
            try:
                results.append(read(reader_))
            except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
                if not reader_.name:
                    raise  # store_call names the store here
                reason = printable(f"the store {reader_.name} cannot be read: {reason_of(error)}")
                raise StoreError(reason) from error
        return results
