"""Logs a training, and the files of a command, in the active run.

The checkpoint has each epoch before the run does, so an epoch that the store does not take is kept:
it goes with a later one, with its own time. MLflow stores equal points once, so delivering twice
changes nothing.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException

from eml.config import AUTO, Config
from eml.data.datasets import Dataset
from eml.errors import UserError
from eml.models.learner import Learner
from eml.tracking.calls import StoreAwayError, store_call
from eml.tracking.runs import active_run
from eml.tracking.tags import CODE, SYSTEM_METRICS, of_all_machines
from eml.training.loop import EpochRecord

SECONDS_IN_TRAINING = 1  # time limit of a try to log epochs during a training
SHARE = 1 / 200  # of the training's time that may go into tries which fail
EPOCHS_IN_A_REQUEST = 50  # MLflow takes 1,000 metrics, and an epoch has fewer than 20


@store_call
def log_setup(config: Config, dataset: Dataset, learner: Learner, threads: int, code: str) -> None:
    """Log Config, dataset, hardware, threads, and the user's own code (a path, or "")."""
    values = asdict(config) | {
        "scaling_mean": dataset.scaling.mean,
        "scaling_std": dataset.scaling.std,
        "train_images": len(dataset.labels["train"]),
        f"{config.evaluated}_images": len(dataset.labels[config.evaluated]),
        "parameters": learner.parameters,
    }
    # `mlflow run` has logged the -P values as they were typed ("1e-3"), and a parameter cannot be
    # changed. The typed values stay; ours must be equal to them, but for the case ("Adam").
    present = active_run().data
    for key, typed in present.params.items():
        if key in values and typed != AUTO and type(values[key])(typed.lower()) != values[key]:
            raise UserError(f"the run given holds {key}={typed}, not {values[key]}: give a new run")
    mlflow.log_params({k: value for k, value in values.items() if k not in present.params})
    if "dataset_digest" not in present.tags:  # a resumed run has logged its dataset
        log_dataset(dataset)
    machine = {"hardware": learner.hardware, "threads": str(threads)}
    machine[SYSTEM_METRICS] = str(MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get()).lower()
    tags = of_all_machines(present.tags, machine)
    mlflow.set_tags(tags | {"dataset_digest": dataset.digest})
    # Before the training, so that an artifact folder that cannot be written is noticed at once.
    mlflow.log_dict(asdict(config), "model/config.json")
    if code:
        mlflow.log_artifact(code, CODE)


@store_call
def log_dataset(dataset: Dataset) -> None:
    """Log the dataset as input of the active run."""
    source = CodeDatasetSource(tags={"eml.data": dataset.name})
    described = MetaDataset(source, name=dataset.name, digest=dataset.digest)  # type: ignore[abstract]
    try:
        mlflow.log_input(described, context="training")
    except MlflowException:
        # If several processes log a new dataset at once, MLflow lets one succeed. Try again.
        mlflow.log_input(described, context="training")


class Delivery:
    """The epochs of a training that its run does not hold yet. The training never waits for it."""

    def __init__(self, run_id: str, records: Sequence[EpochRecord]):
        """records: trained so far. Asks the store which epochs the run holds."""
        self._held = logged_epochs(run_id)
        self._missing = [record for record in records if record.epoch not in self._held]
        self._next_try = 0.0  # in seconds of time.monotonic(); 0 while the store answers

    def offer(self, record: EpochRecord) -> None:
        """Try once to log an epoch, and all that are missing, unless a try failed a moment ago.

        Raises StoreError if the store refuses the epochs; prints a line if it does not answer.
        """
        if record.epoch not in self._held:
            self._missing.append(record)
        began = time.monotonic()
        if not self._missing or began < self._next_try:
            return
        try:
            log_records(self._missing, SECONDS_IN_TRAINING)
        except StoreAwayError as error:
            if not self._next_try:
                print(f"{error}: the training goes on, and its epochs are kept", flush=True)
            now = time.monotonic()
            self._next_try = now + (now - began) / SHARE
            return
        if self._next_try:
            print(f"the store answers again: epochs delivered: {len(self._missing)}", flush=True)
        self._next_try = 0.0
        self._missing.clear()

    def complete(self) -> None:
        """Log all that is missing, and wait for the store. Raises StoreAwayError."""
        log_records(self._missing)
        self._missing.clear()


def log_records(records: Sequence[EpochRecord], seconds: int = 0) -> None:
    """Log epochs as metrics of the active run, with `step` the epoch.

    An epoch is never split between two requests, so the run holds all of it or nothing. seconds:
    as in store_call.
    """
    for start in range(0, len(records), EPOCHS_IN_A_REQUEST):
        several = records[start : start + EPOCHS_IN_A_REQUEST]
        store_call(_send, seconds)([metric for record in several for metric in metrics_of(record)])


def metrics_of(record: EpochRecord) -> list[Metric]:
    """The metrics of an epoch; epoch 0 has no speed, and the set-up does not change later."""
    values = asdict(record)
    epoch, timestamp = values.pop("epoch"), values.pop("timestamp")
    del values["setup_seconds" if epoch else "images_per_second"]
    return [Metric(k, value, timestamp, epoch) for k, value in values.items() if value is not None]


@store_call
def logged_epochs(run_id: str) -> set[int]:
    """The epochs that a run holds. All metrics of an epoch are logged in one request."""
    history = mlflow.MlflowClient().get_metric_history(run_id, "train_seconds")
    return {point.step for point in history}


@store_call
def log_result(records: Sequence[EpochRecord]) -> None:
    """Log final and best accuracy (the first epoch with the highest one), or the tag `diverged`."""
    last = records[-1]
    if last.diverged:
        mlflow.set_tag("diverged", f"epoch {last.epoch}")
    scored = [record for record in records if not math.isnan(record.accuracy)]
    if not scored:
        return
    best, name = max(scored, key=lambda record: record.accuracy), f"{last.evaluated}_accuracy"
    values = {f"best_{name}": best.accuracy, "best_epoch": best.epoch}
    if not last.diverged:
        values[f"final_{name}"] = last.accuracy
    # A run that was interrupted just before its end may have these metrics already.
    present = active_run().data.metrics
    log_metrics({key: value for key, value in values.items() if key not in present})


def log_metrics(values: Mapping[str, float]) -> None:
    """Log values that belong to the whole active run, not to an epoch."""
    now = time.time_ns() // 1_000_000  # the same in each try: MLflow stores equal points once
    store_call(_send)([Metric(key, value, now, 0) for key, value in values.items()])


def _send(metrics: Sequence[Metric]) -> None:
    """Log all metrics in one request, or none; points that the store holds stay single."""
    mlflow.MlflowClient().log_batch(active_run().info.run_id, metrics=metrics)


@store_call
def log_files(folder: Path) -> None:
    """Log all files in `folder` as artifacts of the active run."""
    mlflow.log_artifacts(str(folder))
