"""Logs and loads the weights of trainings, as MLflow's logged models: no pickle, no code."""

import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import mlflow
import numpy as np
import requests
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eml.config import Config
from eml.data.datasets import Dataset
from eml.errors import UserError, printable
from eml.tracking import find
from eml.tracking.calls import store_call, uri
from eml.tracking.log import metrics_of
from eml.tracking.runs import active_run
from eml.training.checkpoints import Arrays
from eml.training.loop import EpochRecord

MODEL_ID = "m-"  # the beginning of a logged model's id
WEIGHTS = "weights.safetensors"
FINAL = {"final": "true"}  # tag: the weights after the last epoch; older runs have others, too


@dataclass(frozen=True)
class StoredModel:
    """A model as the store holds it."""

    name: str  # "model m-...", or "run ..." if a run was asked for
    config: Config
    weights: Arrays  # by name
    accuracy: float  # as logged, on the images that Config.evaluated names; NaN if it was not


@store_call
def log_model(config: Config, dataset: Dataset, last: EpochRecord, weights: Arrays) -> None:
    """Log the weights after the last epoch as a logged model, with the scores of that epoch."""
    client = mlflow.MlflowClient()
    run = mlflow.get_run(active_run().info.run_id)
    model = _model_of(run.info.experiment_id, run.info.run_id) or client.create_logged_model(
        run.info.experiment_id,
        name=f"{config.recipe}_{config.optimizer}_final",
        source_run_id=run.info.run_id,
        tags=FINAL | {"epoch": str(last.epoch)},
        params={name: str(value) for name, value in asdict(config).items()},
        model_type=config.model,
    )
    with tempfile.TemporaryDirectory() as folder:
        # safetensors ignores strides, so arrays must be contiguous.
        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        save_file(arrays, Path(folder, WEIGHTS))
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    if not (run.outputs and run.outputs.model_outputs):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, last.epoch)])
    # The run has these points already, and MLflow stores equal points once.
    about = {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
    scores = [
        Metric(p.key, p.value, p.timestamp, p.step, model_id=model.model_id, **about)
        for p in metrics_of(last)
        if p.key.endswith(("loss", "accuracy"))
    ]
    client.log_batch(run.info.run_id, metrics=scores)


def _model_of(experiment_id: str, run_id: str) -> LoggedModel | None:
    of_run = f"source_run_id = '{run_id}'"
    models = mlflow.MlflowClient().search_logged_models([experiment_id], of_run)
    return next((model for model in models if FINAL.items() <= model.tags.items()), None)


@store_call
def load_model(stored_id: str) -> StoredModel:
    """The logged model with this id, or the final model of the run with this id.

    Raises UserError if there is none or it has no readable weights, ConfigError if another
    version of eml made it.
    """
    if stored_id.startswith(MODEL_ID):
        model = _logged_model(stored_id)
        run, name = find.get(model.source_run_id or ""), f"model {model.model_id}"
    else:
        run = find.get(stored_id)
        name, final = f"run {run.run_id}", _model_of(run.experiment_id, run.run_id)
        if final is None:
            raise UserError(f"{name} holds no finished training: give the id of one that is")
        model = final
    config = run.config
    logged = {point.key: point.value for point in model.metrics or ()}
    accuracy = logged.get(f"{config.evaluated}_accuracy", math.nan)
    return StoredModel(name, config, _weights_of(model, name), accuracy)


def _logged_model(model_id: str) -> LoggedModel:
    try:
        return mlflow.MlflowClient().get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(f"no model {printable(model_id, 100)} in the store {uri()}") from error


def _weights_of(model: LoggedModel, name: str) -> Arrays:
    where = f"models:/{model.model_id}"
    try:
        return load_file(Path(mlflow.artifacts.download_artifacts(where), WEIGHTS))
    except (MlflowException, OSError, SafetensorError, ValueError) as error:
        if isinstance(error.__context__, requests.RequestException):  # the server is away
            raise
        why = printable(error, 200)
        raise UserError(f"{name} has no readable weights ({where}): {why}") from error
