"""Logs and loads the Config and the weights of a run, as artifacts."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
import requests
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eml.config import Config
from eml.errors import UserError
from eml.tracking.calls import store_call
from eml.tracking.find import TrackingError, stored_run
from eml.tracking.log import log_files

MODEL_FOLDER = "model"  # artifact folder of the weights


def log_config(config: Config) -> None:
    """Log the Config (JSON), from which `eml evaluate` rebuilds the model.

    Called before the training, so that an artifact folder that cannot be written is found at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        log_files(Path(folder), MODEL_FOLDER)


def log_weights(state: Mapping[str, np.ndarray]) -> None:
    """Log the weights (safetensors, without pickle) for `eml evaluate`."""
    with tempfile.TemporaryDirectory() as folder:
        # safetensors ignores strides, so arrays must be contiguous.
        contiguous = {name: np.ascontiguousarray(value) for name, value in state.items()}
        save_file(contiguous, Path(folder, "weights.safetensors"))
        log_files(Path(folder), MODEL_FOLDER)


@store_call
def load_model(run_id: str) -> tuple[Config, dict[str, np.ndarray], float, str]:
    """The Config, the weights, the final accuracy (Config.evaluated) and the data digest of a run.

    Raises TrackingError if there is no such run, or the run has no readable weights.
    """
    run = stored_run(run_id)
    run_id, metrics = run.info.run_id, run.data.metrics
    if "best_epoch" not in metrics:
        raise TrackingError(f"run {run_id} holds no finished training: give the id of one that is")
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{MODEL_FOLDER}"))
        text = (folder / "config.json").read_text()
        weights = load_file(folder / "weights.safetensors")
    except (MlflowException, OSError) as error:
        if isinstance(error.__context__, requests.RequestException):
            raise
        raise TrackingError(f"run {run_id} holds no weights ({MODEL_FOLDER}/)") from error
    except (SafetensorError, ValueError) as error:
        raise TrackingError(
            f"run {run_id}: the weights ({MODEL_FOLDER}/) are damaged: {error}"
        ) from error
    try:
        config = Config.from_stored(json.loads(text))
        digest = run.data.tags.get("dataset_digest", "")
        return config, weights, metrics[f"final_{config.evaluated}_accuracy"], digest
    except KeyError as error:
        raise TrackingError(f"run {run_id} has not logged {error}: it diverged") from error
    except (AttributeError, TypeError, ValueError, UserError) as error:
        raise TrackingError(f"run {run_id} was made by another version of eml: {error}") from error
