"""Readers of runs and their points: the fastest one that a store offers.

MLflow's public API reads one metric of one run per call. A database answers for all runs in one
query, a server for 100 runs in one request. These two ways are not public API, so the public one
replaces them if they are missing or changed. All readers return the same (a test compares them).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import mlflow
import pandas as pd
import requests
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from eml.errors import printable
from eml.tracking.calls import is_server
from eml.tracking.stored_run import StoredRun

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for no such run
COLUMNS = ["run_id", "metric", "epoch", "timestamp", "value"]
IDS_IN_A_QUERY = 500  # SQLite takes 32,766 values in a query, old versions 999
BULK_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
IDS_IN_A_REQUEST = 100  # the endpoint's limit
POINTS_IN_A_REQUEST = 25_000  # the endpoint silently drops further points


class ClientReader:
    """Reads through MLflow's public client only."""

    def __init__(self, client: mlflow.MlflowClient, name: str = ""):
        self.client = client
        self.name = name  # of another store; "" for the store here

    @cached_property
    def experiments(self) -> dict[str, str]:
        """The ids of the experiments, by their names."""
        return {each.name: each.experiment_id for each in self.client.search_experiments()}

    def find(self, experiment_ids: Sequence[str], tags: Mapping[str, str]) -> list[StoredRun]:
        """The runs of some experiments that have these tags, newest first."""
        return self.search(experiment_ids, " and ".join(f"tags.`{k}` = '{tags[k]}'" for k in tags))

    def search(self, experiment_ids: Sequence[str], filter_string: str) -> list[StoredRun]:
        """The runs of some experiments that MLflow's filter string selects, newest first."""
        found: list[StoredRun] = []
        token = None
        while True:
            page = self.client.search_runs(
                list(experiment_ids), filter_string, max_results=1000, page_token=token
            )
            found += [StoredRun.of(run, self.name) for run in page]
            token = page.token
            if not token:
                return found

    def get(self, run_ids: Sequence[str]) -> list[StoredRun]:
        """Those of these runs that the store has, in this order."""
        found = []
        for run_id in run_ids:
            try:
                found.append(StoredRun.of(self.client.get_run(run_id), self.name))
            except MlflowException as error:
                if error.error_code not in ABSENT:
                    raise
        return found

    def points(self, run_ids: Sequence[str], metrics: Iterable[str]) -> pd.DataFrame:
        """All points of these metrics, a row for each, with the columns COLUMNS."""
        rows = [
            (run_id, metric, point.step, point.timestamp, point.value)
            for run_id in run_ids
            for metric in metrics
            for point in self.client.get_metric_history(run_id, metric)
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


class ServerReader(ClientReader):
    """Reads points from the endpoint of the MLflow UI's charts."""

    def points(self, run_ids: Sequence[str], metrics: Iterable[str]) -> pd.DataFrame:
        rows = []
        for metric in metrics:
            for ids in _chunks(run_ids, IDS_IN_A_REQUEST):
                points = self._request(ids, metric)
                if points is None:
                    return super().points(run_ids, metrics)
                rows += [
                    (p["run_id"], metric, p["step"], p["timestamp"], p["value"]) for p in points
                ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _request(self, run_ids: Sequence[str], metric: str) -> list[dict] | None:
        """The points of one metric; None if the server does not return all of them."""
        from mlflow.utils.rest_utils import http_request

        try:
            response = http_request(
                self.client._tracking_client.store.get_host_creds(),
                BULK_ENDPOINT,
                "GET",
                params={"run_id": list(run_ids), "metric_key": metric},
            )
            points = response.json()["metrics"] if response.ok else None
        except (AttributeError, KeyError, ValueError, requests.RequestException):
            return None
        return points if points is not None and len(points) < POINTS_IN_A_REQUEST else None


class DatabaseReader(ClientReader):
    """Reads MLflow's own tables, through the database connection that MLflow has open."""

    def __init__(self, client: mlflow.MlflowClient, name: str = ""):
        from mlflow.store.tracking.dbmodels import models

        super().__init__(client, name)
        self.engine = client._tracking_client.store.engine
        self.models = models

    def find(self, experiment_ids: Sequence[str], tags: Mapping[str, str]) -> list[StoredRun]:
        from sqlalchemy import select

        run, tag = self.models.SqlRun, self.models.SqlTag
        query: Any = select(run.run_uuid).where(
            run.experiment_id.in_(list(map(int, experiment_ids))), run.lifecycle_stage == "active"
        )
        for key, value in tags.items():
            having = select(tag.run_uuid).where(tag.key == key, tag.value == value)
            query = query.where(run.run_uuid.in_(having))
        query = query.order_by(run.start_time.desc(), run.run_uuid)
        with self.engine.connect() as connection:
            return self.get(connection.scalars(query).all())

    def get(self, run_ids: Sequence[str]) -> list[StoredRun]:
        run, param, tag = self.models.SqlRun, self.models.SqlParam, self.models.SqlTag
        columns = (run.run_uuid, run.name, run.status, run.start_time, run.experiment_id)
        found = {
            row[0]: StoredRun(
                row[0],
                printable(row[1]),
                row[2],
                row[3],
                str(row[4]),
                row[5] == LifecycleStage.DELETED,
                {},
                {},
                self.name,
            )
            for row in self._rows((*columns, run.lifecycle_stage), run, run_ids)
        }
        for run_id, key, value in self._rows(
            (param.run_uuid, param.key, param.value), param, run_ids
        ):
            found[run_id].params[key] = value
        for run_id, key, value in self._rows((tag.run_uuid, tag.key, tag.value), tag, run_ids):
            found[run_id].tags[key] = value
        return [found[run_id] for run_id in run_ids if run_id in found]

    def points(self, run_ids: Sequence[str], metrics: Iterable[str]) -> pd.DataFrame:
        metric = self.models.SqlMetric
        columns = (metric.run_uuid, metric.key, metric.step, metric.timestamp, metric.value)
        rows = self._rows((*columns, metric.is_nan), metric, run_ids, metric.key.in_(list(metrics)))
        frame = pd.DataFrame(rows, columns=[*COLUMNS, "is_nan"])
        frame["value"] = frame["value"].mask(frame["is_nan"].astype(bool))
        return frame[COLUMNS]

    def _rows(self, columns: Sequence, table, run_ids: Sequence[str], *where) -> list[tuple]:
        from sqlalchemy import select

        rows = []
        with self.engine.connect() as connection:
            for ids in _chunks(run_ids, IDS_IN_A_QUERY):
                query = select(*columns).where(table.run_uuid.in_(ids), *where)
                # Plain tuples of the driver: SQLAlchemy's rows take twice as long.
                rows += connection.execute(query).cursor.fetchall()
        return rows


def reader(client: mlflow.MlflowClient | None = None, name: str = "") -> ClientReader:
    """The fastest reader that a client's store has; by default the active tracking store."""
    client = client or mlflow.MlflowClient()
    if is_server(client.tracking_uri):
        return ServerReader(client, name)
    try:
        return DatabaseReader(client, name)
    except (ImportError, AttributeError):
        return ClientReader(client, name)


def _chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
