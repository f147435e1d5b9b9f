"""Large stores to measure with: runs as eml logs them, written straight into MLflow's tables."""

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from eml.config import Config
from eml.models.optimizers import OPTIMIZERS
from eml.recipes import cifar_cnn
from eml.tracking.digests import training_digest
from eml.tracking.history import METRICS

EPOCHS = 30
RATES = 25
LOGGED = [m for m in METRICS if not m.startswith("validation") and m != "setup_seconds"]
POINTS = """
    WITH RECURSIVE epochs(epoch) AS (
        SELECT 0 UNION ALL SELECT epoch + 1 FROM epochs WHERE epoch < :last
    )
    INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)
    SELECT :key, epoch / 31.0, 1000 + epoch, run_uuid, epoch, :no FROM runs, epochs
"""
LATEST = """
    INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan)
    SELECT key, value, timestamp, run_uuid, step, is_nan FROM metrics WHERE step = :last
"""


def configs(count: int) -> Iterator[Config]:
    """Trainings with every optimizer at 25 rates, and with as many seeds as it takes."""
    for number in range(count):
        seed, rest = divmod(number, len(OPTIMIZERS) * RATES)
        optimizer, rate = divmod(rest, RATES)
        options = cifar_cnn.Options(
            optimizer=list(OPTIMIZERS)[optimizer],
            lr=str((rate + 1) / 1000),
            epochs=EPOCHS,
            seed=seed,
        )
        yield from cifar_cnn.configs(options)


def fill(uri: str, count: int, artifacts: str = "mlflow-artifacts:/") -> None:
    """Make a store of so many finished trainings in a new database.

    artifacts: where new runs are to keep theirs; what is given is for a store behind a server.
    """
    engine = SqlAlchemyStore(uri, artifacts).engine
    runs, params, tags = [], [], []
    for number, config in enumerate(configs(count)):
        run_id = uuid.uuid4().hex
        runs.append(
            {
                "run_uuid": run_id,
                "name": config.run_name,
                "user_id": "",
                "source_type": "LOCAL",
                "source_name": "",
                "entry_point_name": "",
                "status": "FINISHED",
                "start_time": 1000 + number,
                "end_time": 2000 + number,
                "lifecycle_stage": "active",
                "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
                "experiment_id": 0,
            }
        )
        values = dataclasses.asdict(config) | {"train_images": 50_000, "test_images": 10_000}
        params += [{"run_uuid": run_id, "key": k, "value": str(v)} for k, v in values.items()]
        noted = {f"tag_{n}": "x" * 20 for n in range(12)} | {
            "recipe": config.recipe,
            "training_digest": training_digest(config),
            "mlflow.runName": config.run_name,
        }
        tags += [{"run_uuid": run_id, "key": k, "value": v} for k, v in noted.items()]
    with engine.begin() as connection:
        rows_of: dict[Any, Any] = {
            models.SqlRun: runs,
            models.SqlParam: params,
            models.SqlTag: tags,
        }
        for model, rows in rows_of.items():
            connection.execute(sqlalchemy.insert(model.__table__), rows)
        for key in LOGGED:
            values = {"key": key, "last": EPOCHS, "no": False}
            connection.execute(sqlalchemy.text(POINTS), values)
        connection.execute(sqlalchemy.text(LATEST), {"last": EPOCHS})
    engine.dispose()
