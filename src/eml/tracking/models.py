"""Logs and loads the weights of trainings, as MLflow's logged models: no pickle, no code."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import requests
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eml.config import Config
from eml.data.datasets import Dataset
from eml.errors import UserError, printable
from eml.tracking.calls import store_call, uri
from eml.tracking.find import TrackingError, stored_run
from eml.tracking.log import Timed, best_of, log_files, metrics_of
from eml.tracking.runs import active_run

MODEL_FOLDER = "model"  # artifact folder of a run; of eml 0.1 it has the weights too
MODEL_ID = "m-"  # the beginning of a logged model's id
Arrays = Mapping[str, np.ndarray]  # weights by name
CONFIG, WEIGHTS = "config.json", "weights.safetensors"


class StoredModel(NamedTuple):
    """A model as the store holds it."""

    name: str  # "model m-...", or "run ..." if a run was asked for
    config: Config
    weights: Arrays
    accuracy: float  # as logged, on the images that Config.evaluated names


def log_config(config: Config) -> None:
    """Log the Config (JSON) as an artifact of the active run.

    Called before the training, so that an artifact folder that cannot be written is found at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_config(config, Path(folder))
        log_files(Path(folder), MODEL_FOLDER)


def log_models(
    config: Config, dataset: Dataset, epochs: Sequence[Timed], final: Arrays, best: Arrays
) -> None:
    """Log the weights after the last and after the best epoch as logged models of the active run.

    They are one model if the last epoch is the best. There is none if the training diverged.
    epochs: all of the training. best: {} if the weights of the best epoch are not known.
    """
    if epochs[-1][0].diverged:
        return
    best_record = best_of([record for record, _ in epochs])
    (of_best,) = (epoch for epoch in epochs if epoch[0] is best_record)
    if of_best is epochs[-1]:
        _log_model(config, dataset, epochs[-1], final, is_final=True, is_best=True)
        return
    if best:
        _log_model(config, dataset, of_best, best, is_final=False, is_best=True)
    _log_model(config, dataset, epochs[-1], final, is_final=True, is_best=False)


@store_call
def _log_model(
    config: Config,
    dataset: Dataset,
    epoch: Timed,
    weights: Arrays,
    is_final: bool,
    is_best: bool,
) -> None:
    """Log one model, or complete it, with the scores of its epoch."""
    client = mlflow.MlflowClient()
    run = mlflow.get_run(active_run().info.run_id)
    run_id, (record, timestamp) = run.info.run_id, epoch
    tags = {"epoch": str(record.epoch), "final": _text(is_final), "best": _text(is_best)}
    if is_best:
        tags["chosen_on"] = "the test set" if record.evaluated == "test" else "validation images"
    model = _model_of(run, is_final) or client.create_logged_model(
        run.info.experiment_id,
        name=f"{config.recipe}_{config.optimizer}_{'final' if is_final else 'best'}",
        source_run_id=run_id,
        tags=tags,
        params={name: str(value) for name, value in asdict(config).items()},
        model_type=config.model,
    )
    if model.status != LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory() as folder:
            _write_config(config, Path(folder))
            # safetensors ignores strides, so arrays must be contiguous.
            arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
            save_file(arrays, Path(folder, WEIGHTS))
            client.log_model_artifacts(model.model_id, folder)
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, record.epoch)])
    # The run has these points already, and MLflow stores equal points once.
    scores = [
        Metric(
            *(point.key, point.value, point.timestamp, point.step),
            model_id=model.model_id,
            dataset_name=dataset.name,
            dataset_digest=dataset.digest,
        )
        for point in metrics_of(record, timestamp)
        if point.key.endswith(("loss", "accuracy"))
    ]
    client.log_batch(run_id, metrics=scores)


def _write_config(config: Config, folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=2) + "\n")


def _text(value: bool) -> str:
    return str(value).lower()


def _model_of(run: Run, is_final: bool) -> LoggedModel | None:
    """The run's logged model of the last epoch (is_final), or of an earlier, best epoch."""
    found = mlflow.MlflowClient().search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    return next((model for model in found if model.tags.get("final") == _text(is_final)), None)


@store_call
def load_model(stored_id: str) -> StoredModel:
    """The logged model with this id, or the final model of the run with this id.

    Raises TrackingError if there is none, or it has no readable weights.
    """
    model = _logged_model(stored_id) if stored_id.startswith(MODEL_ID) else None
    run = stored_run(model.source_run_id or "" if model else stored_id)
    run_id = run.info.run_id
    name = f"model {model.model_id}" if model else f"run {run_id}"
    if "best_epoch" not in run.data.metrics:
        raise TrackingError(f"run {run_id} holds no finished training: give the id of one that is")
    source = model or _model_of(run, is_final=True)
    where = f"models:/{source.model_id}" if source else f"runs:/{run_id}/{MODEL_FOLDER}"
    try:
        folder = Path(mlflow.artifacts.download_artifacts(where))
        text = (folder / CONFIG).read_text()
        weights = load_file(folder / WEIGHTS)
    except (MlflowException, OSError) as error:
        if isinstance(error.__context__, requests.RequestException):
            raise
        raise TrackingError(f"{name} has no weights ({where})") from error
    except (SafetensorError, ValueError) as error:
        raise TrackingError(f"{name}: the weights ({where}) are damaged: {error}") from error
    try:
        config = Config.from_stored(json.loads(text))
        if model:
            logged = {point.key: point.value for point in model.metrics or ()}
            accuracy = logged[f"{config.evaluated}_accuracy"]
        else:
            accuracy = run.data.metrics[f"final_{config.evaluated}_accuracy"]
        return StoredModel(name, config, weights, accuracy)
    except KeyError as error:
        raise TrackingError(f"{name} has not logged {error}: it diverged") from error
    except (AttributeError, TypeError, ValueError, UserError) as error:
        raise TrackingError(f"{name} was made by another version of eml: {error}") from error


def _logged_model(model_id: str) -> LoggedModel:
    try:
        return mlflow.MlflowClient().get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrackingError(f"no model {printable(model_id, 100)} in the store {uri()}") from error
