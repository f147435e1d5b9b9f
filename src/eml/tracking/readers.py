"""Runs as a store holds them, and the reader of a store.

MLflow's public API reads one metric of one run per call. A database answers for all runs in one
query, a server for 100 runs in one request. These two ways are not public API, so the public one
replaces them if they are missing or changed. All ways read the same (a test compares them).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
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
Row = tuple[Any, ...]
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


class Reader:
    """Reads runs through MLflow's client, and points in the fastest way that the store has."""

    def __init__(self, client: mlflow.MlflowClient | None = None, name: str = ""):
        """client: by default of the active store. name: of another store; "" for the store here."""
        self.client = client or mlflow.MlflowClient()
        self.name = name

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

    def _stored(self, run: Run) -> StoredRun:
        info, data = run.info, run.data
        about = (info.run_id, printable(info.run_name), info.status, info.start_time)
        deleted = info.lifecycle_stage == LifecycleStage.DELETED
        return StoredRun(*about, info.experiment_id, deleted, data.params, data.tags, self.name)

    def points(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """All points of these metrics, a row for each, with the columns COLUMNS."""
        fast = self._of_server if is_server(self.client.tracking_uri) else self._of_database
        try:
            rows = fast(run_ids, metrics)
        except (ImportError, AttributeError, KeyError, ValueError, requests.RequestException):
            rows = [
                (run_id, metric, point.step, point.timestamp, point.value)
                for run_id in run_ids
                for metric in metrics
                for point in self.client.get_metric_history(run_id, metric)
            ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _of_server(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Row]:
        """The rows of points(), from the endpoint of the charts in MLflow's UI."""
        from mlflow.utils import rest_utils

        http_request: Any = rest_utils.http_request
        rows: list[Row] = []
        creds = self.client._tracking_client.store.get_host_creds()
        for metric, start in product(metrics, range(0, len(run_ids), IDS_IN_A_REQUEST)):
            some = {"run_id": run_ids[start : start + IDS_IN_A_REQUEST], "metric_key": metric}
            answer = http_request(creds, BULK_ENDPOINT, "GET", params=some).json()["metrics"]
            if len(answer) >= POINTS_IN_A_REQUEST:
                raise ValueError("some points may be missing")
            rows += [(p["run_id"], metric, p["step"], p["timestamp"], p["value"]) for p in answer]
        return rows

    def _of_database(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Row]:
        """The rows of points(), from MLflow's table of them, through its open connection."""
        from mlflow.store.tracking.dbmodels.models import SqlMetric
        from sqlalchemy import case, select

        table: Any = SqlMetric
        value = case((table.is_nan, None), else_=table.value)
        query = select(table.run_uuid, table.key, table.step, table.timestamp, value)
        query = query.where(table.run_uuid.in_(run_ids), table.key.in_(metrics))
        with self.client._tracking_client.store.engine.connect() as connection:
            # Plain tuples of the driver: SQLAlchemy's rows take twice as long.
            return list(connection.execute(query).cursor.fetchall())
