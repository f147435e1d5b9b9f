"""Copies the finished runs of another store into this one."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow.artifacts import download_artifacts
from mlflow.entities import (
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunStatus,
    RunTag,
)
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from eml.environment import environment
from eml.errors import UserError
from eml.text import printable
from eml.tracking.calls import store_call
from eml.tracking.readers import ClientReader, reader
from eml.tracking.tags import (
    CHECKPOINT,
    CONTINUED_IN,
    CREATION,
    IMPORTED_FROM,
    PARENT,
    REUSED,
    epoch_in,
)

MOST_METRICS, MOST_PARAMETERS = 1000, 100  # of a request
# Tags that hold ids of other runs, which have other ids here.
REFERENCES = (PARENT, REUSED, CONTINUED_IN, "continues")
NOT_COPIED = {*REFERENCES, CHECKPOINT, CREATION, IMPORTED_FROM}
UNFINISHED = {"RUNNING", "SCHEDULED"}


class ImportStoreError(UserError):
    """The other store cannot be read."""


class Imported(NamedTuple):
    """What was copied."""

    new: int
    already: int
    without_artifacts: list[str]  # ids of runs whose artifacts are not where their store says


def import_runs(store: str) -> Imported:
    """Copy what the store here lacks; of an interrupted import, the rest.

    store: a file, a folder with mlflow.db, or a URI. Copied are the finished runs, and all runs
    nested in them. The id that a run had first is its tag IMPORTED_FROM.

    Raises ImportStoreError if the other store cannot be read.
    """
    uri = _uri(store)
    source = _Source(uri)
    runs = source.finished()
    here = {_origin(run.tags, run.run_id): run for run in _all_here()}
    ids = {
        run.info.run_id: here[origin].run_id
        for run in runs
        if (origin := _origin(run.data.tags, run.info.run_id)) in here
        and here[origin].status not in UNFINISHED
    }
    already, without = len(ids), []
    for run in runs:
        if run.info.run_id in ids:
            continue
        ids[run.info.run_id], has_artifacts = _copy(source, run, ids)
        if not has_artifacts:
            without.append(run.info.run_id)
    for run in runs:
        _refer(run, ids)
    return Imported(len(ids) - already, already, without)


def _uri(store: str) -> str:
    """The URI of an existing store."""
    if "://" in store:
        uri = store
        try:
            url = make_url(uri)
            file = Path(url.database or "") if url.drivername.startswith("sqlite") else None
        except ArgumentError:
            file = None
    else:
        path = Path(store).expanduser()
        file = path / "mlflow.db" if path.is_dir() else path
        uri = f"sqlite:///{file.absolute()}"
    if file is not None and not (file.is_file() and file.stat().st_size):
        raise ImportStoreError(
            f"there is no store {printable(file)}: give the mlflow.db of another folder, or a URI"
        )
    here = make_url(mlflow.get_tracking_uri()).database if "sqlite" in uri else None
    if mlflow.get_tracking_uri() == uri or (
        file and here and Path(here).exists() and file.samefile(here)
    ):
        raise ImportStoreError(f"{printable(store)} is the store here: give another one")
    return uri


class _Source:
    """The store that is copied from."""

    def __init__(self, uri: str):
        self.uri = uri
        limits = {MLFLOW_HTTP_REQUEST_MAX_RETRIES.name: "0"}
        try:
            with environment(limits):
                self.client = mlflow.MlflowClient(tracking_uri=uri)
                self.experiments = {
                    e.experiment_id: e.name for e in self.client.search_experiments()
                }
                self.reader = reader(self.client)
        except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ImportStoreError(
                printable(f"the store {uri} cannot be read: {reason}")
            ) from error

    def finished(self) -> list[Run]:
        """The finished runs, and the ended runs nested in one of them; oldest first."""
        found: dict[str, Run] = {}
        token = None
        while True:
            page = self.client.search_runs(
                list(self.experiments), max_results=1000, page_token=token
            )
            found |= {run.info.run_id: run for run in page}
            token = page.token
            if not token:
                break

        def is_copied(run: Run) -> bool:
            parent = found.get(run.data.tags.get(PARENT, ""))
            ended = run.info.status not in UNFINISHED
            return run.info.status == "FINISHED" or (
                ended and parent is not None and parent.info.status == "FINISHED"
            )

        return sorted(filter(is_copied, found.values()), key=lambda run: run.info.start_time)

    def metrics(self, run: Run) -> list[Metric]:
        """All points of a run, with their own times."""
        points = self.reader.points([run.info.run_id], list(run.data.metrics))
        return [
            Metric(row.metric, row.value, int(row.timestamp), int(row.epoch))
            for row in points.itertuples()
        ]

    def models(self, run: Run) -> list[LoggedModel]:
        """The logged models of a run that are whole, oldest first."""
        found = self.client.search_logged_models(
            [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
        )
        return [model for model in found[::-1] if model.status == LoggedModelStatus.READY]

    def artifacts(self, of: Run | LoggedModel, folder: str) -> Path | None:
        """A folder with the artifacts of a run or model; None if they are not where the store says.

        folder: where those of a server are put. Those of a file store that was moved are looked for
        beside it.
        """
        where = of.info.artifact_uri if isinstance(of, Run) else of.artifact_location
        if urlsplit(where).scheme not in ("", "file"):
            name = f"runs:/{of.info.run_id}" if isinstance(of, Run) else of.model_uri
            return Path(download_artifacts(name, dst_path=folder, tracking_uri=self.uri))
        path = Path(unquote(urlsplit(where).path))
        if path.exists() or "sqlite" not in self.uri:
            return path if path.exists() else None
        beside = Path(make_url(self.uri).database or "").parent / "mlruns"
        moved = beside.joinpath(*path.parts[-3 if isinstance(of, Run) else -4 :])
        return moved if moved.exists() else None


@store_call
def _all_here() -> list:
    client = mlflow.MlflowClient()
    read: ClientReader = reader(client)
    return read.search([each.experiment_id for each in client.search_experiments()], "")


def _origin(tags: Mapping[str, str], run_id: str) -> str:
    """The id that a run had in the store where it was made."""
    return tags.get(IMPORTED_FROM, run_id)


@store_call
def _copy(source: _Source, run: Run, ids: Mapping[str, str]) -> tuple[str, bool]:
    """Copy one run; its id here, and whether its artifacts were found.

    The copy is RUNNING until it is whole, so that an interrupted one is replaced.
    """
    client = mlflow.MlflowClient()
    origin = _origin(run.data.tags, run.info.run_id)
    experiment = _experiment(client, source.experiments[run.info.experiment_id])
    for half in client.search_runs(
        [experiment], f"tags.{IMPORTED_FROM} = '{origin}' and attributes.status = 'RUNNING'"
    ):
        client.delete_run(half.info.run_id)
    tags = {key: value for key, value in run.data.tags.items() if key not in NOT_COPIED}
    tags |= {IMPORTED_FROM: origin} | _references(run, ids)
    copy = client.create_run(experiment, run.info.start_time, tags, run.info.run_name).info.run_id
    for params in _chunks(list(run.data.params.items()), MOST_PARAMETERS):
        client.log_batch(copy, params=[Param(*item) for item in params])
    for metrics in _chunks(source.metrics(run), MOST_METRICS):
        client.log_batch(copy, metrics=metrics)
    if run.inputs and run.inputs.dataset_inputs:
        client.log_inputs(copy, datasets=run.inputs.dataset_inputs)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = source.artifacts(run, folder)
        if artifacts and any(artifacts.iterdir()):
            client.log_artifacts(copy, str(artifacts))
    found = [_copy_model(source, model, experiment, copy) for model in source.models(run)]
    status = run.info.status
    assert RunStatus.is_terminated(RunStatus.from_string(status))
    client.set_terminated(copy, status, run.info.end_time)
    return copy, artifacts is not None and all(found)


def _copy_model(source: _Source, model: LoggedModel, experiment: str, run_id: str) -> bool:
    """Copy a logged model of a run, as one of the copy; whether its artifacts were found."""
    client = mlflow.MlflowClient()
    with tempfile.TemporaryDirectory() as folder:
        artifacts = source.artifacts(model, folder)
        if artifacts is None:
            return False
        tags, params = dict(model.tags), dict(model.params)
        copy = client.create_logged_model(
            experiment, model.name, run_id, tags, params, model.model_type
        )
        client.log_model_artifacts(copy.model_id, str(artifacts))
    client.finalize_logged_model(copy.model_id, LoggedModelStatus.READY)
    epoch = max(0, epoch_in(tags, "epoch"))  # of another program's model there may be none
    client.log_outputs(run_id, [LoggedModelOutput(copy.model_id, epoch)])
    metrics = [
        Metric(
            *(point.key, point.value, point.timestamp, point.step),
            model_id=copy.model_id,
            dataset_name=point.dataset_name,
            dataset_digest=point.dataset_digest,
        )
        for point in model.metrics or ()
    ]
    for several in _chunks(metrics, MOST_METRICS):
        client.log_batch(run_id, metrics=several)
    return True


@store_call
def _refer(run: Run, ids: Mapping[str, str]) -> None:
    """Let the copy of a run name the copies of other runs that did not exist before."""
    client = mlflow.MlflowClient()
    wanted = _references(run, ids)
    if not wanted:
        return
    present = client.get_run(ids[run.info.run_id]).data.tags
    tags = [RunTag(key, value) for key, value in wanted.items() if present.get(key) != value]
    if tags:
        client.log_batch(ids[run.info.run_id], tags=tags)


def _references(run: Run, ids: Mapping[str, str]) -> dict[str, str]:
    """The tags in REFERENCES with the ids of this store; without those of runs not copied."""
    found = {}
    for tag in REFERENCES:
        known = [ids[old] for old in run.data.tags.get(tag, "").split(",") if old in ids]
        if known:
            found[tag] = ",".join(known)
    return found


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def _chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    return (items[start : start + size] for start in range(0, len(items), size))
