"""Logs and loads the weights of trainings, as MLflow's logged models: no pickle, no code."""

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import requests
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eml.config import Config
from eml.errors import UserError, printable
from eml.tracking import find
from eml.tracking.calls import store_call
from eml.tracking.runs import active_run
from eml.training.checkpoints import Arrays

WEIGHTS = "weights.safetensors"
FINAL = {"final": "true"}  # tag: the weights after the last epoch; older runs have others, too


class StoredModel(NamedTuple):
    """The final model of a run, as the store holds it."""

    config: Config
    weights: Arrays  # by name
    accuracy: float  # as logged, on the images that Config.evaluated names; NaN if it was not


@store_call
def log_model(config: Config, epoch: int, weights: Arrays) -> None:
    """Log the weights after the last epoch as a logged model of the active run."""
    client = mlflow.MlflowClient()
    run = mlflow.get_run(active_run().info.run_id)
    note = f'`eml.load_model("{run.info.run_id}")` returns the Config and the network.'
    model = _model_of(run.info.experiment_id, run.info.run_id) or client.create_logged_model(
        run.info.experiment_id,
        # MLflow allows no "." in it.
        name=f"{config.recipe}_{config.optimizer}_{config.learning_rate:.0e}_seed{config.seed}",
        source_run_id=run.info.run_id,
        tags=FINAL | {"epoch": str(epoch), MLFLOW_RUN_NOTE: note},
        params={name: str(value) for name, value in asdict(config).items()},
        model_type=config.model,
    )
    with tempfile.TemporaryDirectory() as folder:
        # safetensors ignores strides, so arrays must be contiguous.
        arrays = {name: np.asarray(array, order="C") for name, array in weights.items()}
        save_file(arrays, Path(folder, WEIGHTS))
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    if not (run.outputs and run.outputs.model_outputs):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, epoch)])


def _model_of(experiment_id: str, run_id: str) -> LoggedModel | None:
    of_run = f"source_run_id = '{run_id}'"
    models = mlflow.MlflowClient().search_logged_models([experiment_id], of_run)
    return next((model for model in models if FINAL.items() <= model.tags.items()), None)


@store_call
def load_model(run_id: str) -> StoredModel:
    """The final model of the run with this id, or the only one whose id begins with these digits.

    Raises UserError if there is none or it has no readable weights, ConfigError if another
    version of eml made it.
    """
    run = find.get(run_id)
    model = _model_of(run.experiment_id, run.run_id)
    if model is None:
        raise UserError(f"run {run_id} holds no finished training: give the id of one that is")
    if run.config.code_sha256:
        raise UserError(f"run {run_id} trained its user's own code, which eml does not execute")
    where = f"models:/{model.model_id}"
    try:
        weights = load_file(Path(mlflow.artifacts.download_artifacts(where), WEIGHTS))
    except (MlflowException, OSError, SafetensorError, ValueError) as error:
        if isinstance(error.__context__, requests.RequestException):  # the server is away
            raise
        why = printable(error, 200)
        raise UserError(f"run {run_id} has no readable weights ({where}): {why}") from error
    logged = mlflow.get_run(run.run_id).data.metrics
    accuracy = logged.get(f"final_{run.config.evaluated}_accuracy", math.nan)
    return StoredModel(run.config, weights, accuracy)
