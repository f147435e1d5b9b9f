"""Runs as a store holds them, and their readers: the fastest one that the store offers.

MLflow's public API reads one metric of one run per call. A database answers for all runs in one
query, a server for 100 runs in one request. These two ways are not public API, so the public one
replaces them if they are missing or changed. All readers return the same (a test compares them).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlflow
import pandas as pd
import requests
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from eml.config import Config, ConfigError
from eml.errors import printable
from eml.tracking import tags
from eml.tracking.calls import is_server

FINISHED = "FINISHED"  # MLflow's status
LONGEST_REASON = 200  # characters
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for no such run
MOST_RUNS = 50_000  # of a search; MLflow's limit
COLUMNS = ["run_id", "metric", "epoch", "timestamp", "value"]
BULK_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
IDS_IN_A_REQUEST = 100  # the endpoint's limit
POINTS_IN_A_REQUEST = 25_000  # the endpoint silently drops further points
Wanted = Mapping[str, str] | str  # tags that a run must have, or MLflow's filter string


@dataclass(frozen=True)
class StoredRun:
    """A run without its points. Anyone may have made the run: tags and params hold any text."""

    run_id: str
    name: str
    status: str  # MLflow's, as "FINISHED"
    start_time: int  # milliseconds since 1970
    experiment_id: str
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]
    store: str = ""  # the name of another store that holds the run; "" for the store here

    @cached_property
    def config(self) -> Config:
        """The Config of a training. Raises ConfigError if the run has none."""
        return Config.from_stored(self.params)

    @cached_property
    def why_no_training(self) -> str:
        """Why the run is not the training of a Config, in words; "" if it is."""
        try:
            _ = self.config
        except ConfigError as error:
            return printable(error, LONGEST_REASON)
        return ""

    @property
    def where(self) -> str:
        """The id, with the store if that is another one, for messages."""
        return f"{self.run_id} of {self.store}" if self.store else self.run_id

    @property
    def parent(self) -> str:
        """The id of the run that this one is nested in, or ""."""
        return self.tags.get(tags.PARENT, "")

    @property
    def epochs(self) -> int:
        """How many the run is to train; 0 of a parent."""
        return max(tags.number_in(self.params, "epochs"), 0)

    @property
    def is_over(self) -> bool:
        """Whether the run is finished, or continued in another run."""
        return self.status == FINISHED or tags.CONTINUED_IN in self.tags

    @property
    def reason(self) -> str:
        """Why the run failed or stopped, in a line."""
        # `mlflow run` makes FAILED of each run whose process was stopped.
        failed = self.status == "FAILED" and "stopped" not in self.tags
        text = self.tags.get("error" if failed else "stopped", "").strip() or "no reason is known"
        return f"{'failed' if failed else 'stopped'}: {printable(text.splitlines()[0])}"


class ClientReader:
    """Reads through MLflow's public client only."""

    def __init__(self, client: mlflow.MlflowClient, name: str = ""):
        self.client = client
        self.name = name  # of another store; "" for the store here

    @cached_property
    def experiments(self) -> dict[str, str]:
        """The ids of the experiments, by their names."""
        return {one.name: one.experiment_id for one in self.client.search_experiments()}

    def search(self, experiment_ids: Sequence[str], wanted: Wanted) -> list[StoredRun]:
        """The wanted runs of some experiments, newest first."""
        if not isinstance(wanted, str):
            wanted = " and ".join(f"tags.`{key}` = '{wanted[key]}'" for key in wanted)
        runs = self.client.search_runs(list(experiment_ids), wanted, max_results=MOST_RUNS)
        return [self._stored(run) for run in runs]

    def get(self, run_ids: Sequence[str]) -> list[StoredRun]:
        """Those of these runs that the store has, in this order."""
        runs = []
        for run_id in run_ids:
            try:
                runs.append(self._stored(self.client.get_run(run_id)))
            except MlflowException as error:
                if error.error_code not in ABSENT:
                    raise
        return runs

    def points(self, run_ids: Sequence[str], metrics: Iterable[str]) -> pd.DataFrame:
        """All points of these metrics, a row for each, with the columns COLUMNS."""
        rows = [row for metric in metrics for row in self._points(run_ids, metric)]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _points(self, run_ids: Sequence[str], metric: str) -> list[tuple[Any, ...]]:
        return [
            (run_id, metric, point.step, point.timestamp, point.value)
            for run_id in run_ids
            for point in self.client.get_metric_history(run_id, metric)
        ]

    def _stored(self, run: Run) -> StoredRun:
        info, data = run.info, run.data
        about = (info.run_id, printable(info.run_name), info.status, info.start_time)
        deleted = info.lifecycle_stage == LifecycleStage.DELETED
        return StoredRun(*about, info.experiment_id, deleted, data.params, data.tags, self.name)


class ServerReader(ClientReader):
    """Reads points from the endpoint of the MLflow UI's charts."""

    def _points(self, run_ids: Sequence[str], metric: str) -> list[tuple[Any, ...]]:
        from mlflow.utils import rest_utils

        http_request: Any = rest_utils.http_request
        points: list[dict[str, Any]] = []
        try:
            creds = self.client._tracking_client.store.get_host_creds()
            for start in range(0, len(run_ids), IDS_IN_A_REQUEST):
                some = {"run_id": run_ids[start : start + IDS_IN_A_REQUEST], "metric_key": metric}
                answer = http_request(creds, BULK_ENDPOINT, "GET", params=some).json()["metrics"]
                if len(answer) >= POINTS_IN_A_REQUEST:
                    raise ValueError("some points may be missing")
                points += answer
        except (AttributeError, KeyError, ValueError, requests.RequestException):
            return super()._points(run_ids, metric)
        return [(p["run_id"], metric, p["step"], p["timestamp"], p["value"]) for p in points]


class DatabaseReader(ClientReader):
    """Reads MLflow's own tables, through the database connection that MLflow has open."""

    def __init__(self, client: mlflow.MlflowClient, name: str = ""):
        from mlflow.store.tracking.dbmodels import models

        super().__init__(client, name)
        self.engine = client._tracking_client.store.engine
        self.models: Any = models

    def search(self, experiment_ids: Sequence[str], wanted: Wanted) -> list[StoredRun]:
        from sqlalchemy import select

        if isinstance(wanted, str):
            return super().search(experiment_ids, wanted)
        run, tag = self.models.SqlRun, self.models.SqlTag
        query = select(run.run_uuid).where(
            run.experiment_id.in_(list(map(int, experiment_ids))), run.lifecycle_stage == "active"
        )
        for key, value in wanted.items():
            having = select(tag.run_uuid).where(tag.key == key, tag.value == value)
            query = query.where(run.run_uuid.in_(having))
        with self.engine.connect() as connection:
            ids = connection.scalars(query.order_by(run.start_time.desc(), run.run_uuid))
            return self.get(list(ids))

    def get(self, run_ids: Sequence[str]) -> list[StoredRun]:
        run, param, tag = self.models.SqlRun, self.models.SqlParam, self.models.SqlTag
        runs = {}
        columns = (run.name, run.status, run.start_time, run.experiment_id, run.lifecycle_stage)
        for run_id, name, status, start, experiment, stage in self._rows(run_ids, run, *columns):
            about = (run_id, printable(name), status, start, str(experiment))
            deleted = stage == LifecycleStage.DELETED
            runs[run_id] = StoredRun(*about, deleted, {}, {}, self.name)
        for run_id, key, value in self._rows(run_ids, param, param.key, param.value):
            runs[run_id].params[key] = value
        for run_id, key, value in self._rows(run_ids, tag, tag.key, tag.value):
            runs[run_id].tags[key] = value
        return [runs[run_id] for run_id in run_ids if run_id in runs]

    def points(self, run_ids: Sequence[str], metrics: Iterable[str]) -> pd.DataFrame:
        table = self.models.SqlMetric
        columns = (table.key, table.step, table.timestamp, table.value, table.is_nan)
        where = table.key.in_(list(metrics))
        rows = self._rows(run_ids, table, *columns, where=where)
        frame = pd.DataFrame(rows, columns=[*COLUMNS, "is_nan"])
        frame["value"] = frame["value"].mask(frame["is_nan"].astype(bool))
        return frame[COLUMNS]

    def _rows(
        self, run_ids: Sequence[str], table: Any, *columns: Any, where: Any = True
    ) -> list[Any]:
        """The id of the run, and these columns, of the table's rows for these runs."""
        from sqlalchemy import select

        query = select(table.run_uuid, *columns).where(table.run_uuid.in_(run_ids), where)
        with self.engine.connect() as connection:
            # Plain tuples of the driver: SQLAlchemy's rows take twice as long.
            return list(connection.execute(query).cursor.fetchall())


def reader(client: mlflow.MlflowClient | None = None, name: str = "") -> ClientReader:
    """The fastest reader that a client's store has; by default the active tracking store."""
    client = client or mlflow.MlflowClient()
    if is_server(client.tracking_uri):
        return ServerReader(client, name)
    try:
        return DatabaseReader(client, name)
    except (ImportError, AttributeError):
        return ClientReader(client, name)
