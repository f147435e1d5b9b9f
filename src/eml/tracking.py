"""Runs in the MLflow tracking store. The only module that imports mlflow."""

import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

import mlflow
import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE
from safetensors.numpy import load_file, save_file

from eml.config import Config
from eml.data import Dataset
from eml.errors import UserError
from eml.history import REUSED
from eml.identity import training_digest
from eml.learner import Learner
from eml.provenance import git_state, versions
from eml.stopping import Stopped, signals_held
from eml.train import EpochRecord

TRAINING_DIGEST = "training_digest"  # tag: see identity.py
PAUSE_SECONDS = 2
LONGEST_NOTE = 5000  # characters that MLflow takes for a tag in every store
MODEL_FOLDER = "model"  # artifact folder of the weights
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own run names, as "calm-fox-12"


class TrackingError(UserError):
    """The store does not hold what was asked for; the message says what is missing."""


@contextmanager
def run(
    name: str, description: str, tags: Mapping[str, str], nested: bool = False
) -> Iterator[str]:
    """A run that ends with the right status, whatever ends it; its id.

    The run that `mlflow run` made is used where there is one, else a new one begins. Its status
    becomes FINISHED; KILLED on a signal, with the tag `stopped` (which signal, when); FAILED on
    any other exception, with its message in the tag `error`.
    """
    with ExitStack() as beginning:
        beginning.enter_context(signals_held())
        # Not start_run() as context manager: it knows FINISHED and FAILED only.
        active = mlflow.start_run(nested=nested)
        status = RunStatus.FINISHED
        try:
            given_name = active.info.run_name
            if nested or GENERATED_NAME.fullmatch(given_name):
                mlflow.set_tag(MLFLOW_RUN_NAME, name)
            note = description[:LONGEST_NOTE]
            mlflow.set_tags({**tags, **versions(), **git_state(), MLFLOW_RUN_NOTE: note})
            beginning.close()
            yield active.info.run_id
        except Stopped as stopped:
            status = RunStatus.KILLED
            mlflow.set_tag("stopped", _when(stopped))
            raise
        except BaseException as error:
            status = RunStatus.FAILED
            mlflow.set_tag("error", f"{type(error).__name__}: {error}")
            raise
        finally:
            _end(active.info.run_id, RunStatus.to_string(status))


def _end(run_id: str, status: str) -> None:
    try:
        mlflow.end_run(status)
    except mlflow.MlflowException:
        # "database is locked": SQLite says so at once while it undoes what a killed process had
        # half written. The run is off MLflow's stack already.
        sleep(PAUSE_SECONDS)
        mlflow.MlflowClient().set_terminated(run_id, status)


def _when(stopped: Stopped) -> str:
    return f"{stopped} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def refuse(run_id: str, message: str) -> None:
    """Note in the run that `mlflow run` made why it is about to fail."""
    mlflow.MlflowClient().set_tag(run_id, "error", message)


def stop(run_id: str, stopped: Stopped) -> None:
    """End the run that `mlflow run` made, if the signal came before eml had begun to use it.

    When `mlflow run` is gone too, nobody else would.
    """
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_tag(run_id, "stopped", _when(stopped))
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@signals_held()
def log_setup(config: Config, dataset: Dataset, learner: Learner) -> None:
    """Log what the active run trains: all of its Config, its dataset, and on what it runs."""
    values = asdict(config) | {
        "scaling_mean": dataset.scaling.mean,
        "scaling_std": dataset.scaling.std,
        "train_images": len(dataset.labels["train"]),
        "test_images": len(dataset.labels["test"]),
        "parameters": sum(weights.size for weights in learner.state().values()),
    }
    # `mlflow run` has logged the -P values as they were typed ("1e-3"), and a parameter cannot
    # be changed. Ours have the same value, so the typed ones stay.
    present = mlflow.active_run().data.params
    for key in values.keys() & present.keys():
        if type(values[key])(present[key]) != values[key]:
            raise TrackingError(
                f"the run given holds {key}={present[key]}, not {values[key]}: give a new run"
            )
    mlflow.log_params({key: value for key, value in values.items() if key not in present})
    source = CodeDatasetSource(tags={"eml.data": dataset.name})
    mlflow.log_input(
        MetaDataset(source, name=dataset.name, digest=dataset.digest), context="training"
    )
    mlflow.set_tags(
        {
            **learner.hardware,
            "dataset_digest": dataset.digest,
            TRAINING_DIGEST: training_digest(config),
        }
    )


@signals_held()
def log_record(record: EpochRecord) -> None:
    """Log an epoch as metrics of the active run, in one request, with `step` the epoch."""
    values = asdict(record)
    epoch = values.pop("epoch")
    if epoch == 0:
        del values["images_per_second"]  # nothing was trained
    else:
        del values["setup_seconds"]  # does not change
    timestamp = int(datetime.now(UTC).timestamp() * 1000)
    metrics = [Metric(key, value, timestamp, epoch) for key, value in values.items()]
    mlflow.MlflowClient().log_batch(mlflow.active_run().info.run_id, metrics=metrics)


@signals_held()
def log_result(records: list[EpochRecord]) -> None:
    """Log final and best test accuracy, or the tag `diverged` with the epoch."""
    if records[-1].diverged:
        mlflow.set_tag("diverged", f"epoch {records[-1].epoch}")
    finite = [r for r in records if not math.isnan(r.test_accuracy)]
    if not finite:
        return
    best = max(finite, key=lambda r: r.test_accuracy)
    mlflow.log_metrics({"best_test_accuracy": best.test_accuracy, "best_epoch": best.epoch})
    if not records[-1].diverged:
        mlflow.log_metric("final_test_accuracy", records[-1].test_accuracy)


@signals_held()
def log_metrics(values: Mapping[str, float]) -> None:
    """Log values that belong to the active run as a whole, to no epoch."""
    mlflow.log_metrics(dict(values))


@signals_held()
def log_reused(run_ids: Iterable[str]) -> None:
    """Note in the active run, a parent, which runs besides its children belong to it."""
    mlflow.set_tag(REUSED, ",".join(run_ids))


@signals_held()
def log_sources(run_ids: Sequence[str]) -> None:
    """Note in the active run, a comparison, which runs it compares."""
    # A tag holds 8,000 characters, 242 ids.
    for number, start in enumerate(range(0, len(run_ids), 200), start=1):
        mlflow.set_tag(f"source_runs_{number}", ",".join(run_ids[start : start + 200]))


@signals_held()
def log_files(folder: Path) -> None:
    """Log all files in `folder` as artifacts of the active run."""
    mlflow.log_artifacts(str(folder))


@signals_held()
def finished_training(digest: str) -> str | None:
    """The newest finished run, in any experiment, of the training with this digest."""
    client = mlflow.MlflowClient()
    found = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        f"tags.{TRAINING_DIGEST} = '{digest}' and attributes.status = 'FINISHED'",
        max_results=1,
    )
    return found[0].info.run_id if found else None


@signals_held()
def log_model(state: Mapping[str, np.ndarray], config: Config) -> None:
    """Log weights (safetensors) and Config (JSON), from which `eml evaluate` rebuilds the model."""
    with tempfile.TemporaryDirectory() as folder:
        # safetensors writes the memory as it lies, whatever the strides say.
        contiguous = {name: np.ascontiguousarray(value) for name, value in state.items()}
        save_file(contiguous, Path(folder, "weights.safetensors"))
        Path(folder, "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        mlflow.log_artifacts(folder, MODEL_FOLDER)


def load_model(run_id: str) -> tuple[Config, dict[str, np.ndarray], float]:
    """The Config, the weights and the logged final test accuracy of a run.

    Raises TrackingError if there is no such run, or it has no weights.
    """
    try:
        metrics = mlflow.get_run(run_id).data.metrics
    except mlflow.MlflowException as error:
        raise TrackingError(f"no run {run_id} in the store {mlflow.get_tracking_uri()}") from error
    if "final_test_accuracy" not in metrics:
        raise TrackingError(f"run {run_id} holds no finished training: give the id of one that is")
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{MODEL_FOLDER}"))
        values = json.loads((folder / "config.json").read_text())
        weights = load_file(folder / "weights.safetensors")
    except (mlflow.MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} holds no weights ({MODEL_FOLDER}/)") from error
    try:
        return Config(**values), weights, metrics["final_test_accuracy"]
    except TypeError as error:
        raise TrackingError(f"run {run_id} was made by another version of eml: {error}") from error


def where() -> str:
    """The active run and its store, for people."""
    info = mlflow.active_run().info
    return f"run {info.run_id} in {mlflow.get_tracking_uri()}"
