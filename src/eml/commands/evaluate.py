"""The `evaluate` command: scores the weights of a run and compares with its logged accuracy."""

import dataclasses
import sys

from eml.config import resolve_device
from eml.errors import UserError
from eml.tracking.models import load_model
from eml.tracking.reap import begin
from eml.training.loop import load_for, make_learner

# Largest difference between accuracies that rounding on another processor can cause.
LARGEST_DIFFERENCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 1e-2}


def evaluate(stored_id: str, device: str) -> None:
    """Print both accuracies; exit with 1 if they differ by more than LARGEST_DIFFERENCE.

    stored_id: of a run, whose final model is scored, or of a logged model. device: "auto", "cpu" or
    "cuda". Raises UserError if there are no weights that fit the network.
    """
    device_type = resolve_device(device)
    begin()
    stored = load_model(stored_id)
    config = stored.config
    largest = LARGEST_DIFFERENCE[config.precision]
    if config.framework == "torch":
        precision = config.precision if device_type == "cuda" else "fp32"
        config = dataclasses.replace(config, device_type=device_type, precision=precision)
    dataset = load_for(config)
    learner = make_learner(config, dataset)
    try:
        learner.load_state(stored.weights)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"the weights of {stored.name} do not fit its network") from error
    score = learner.evaluate(config.evaluated)
    print(
        f"{config.run_name}: {config.evaluated} accuracy {score.accuracy:.4f} "
        f"on {score.examples} images, logged {stored.accuracy:.4f}"
    )
    if not abs(score.accuracy - stored.accuracy) <= largest:  # also reached if one is NaN
        same = (
            ""
            if dataset.digest == stored.dataset_digest
            else ", and so do the images that they were measured on"
        )
        print(f"the accuracies differ{same}", file=sys.stderr)
        sys.exit(1)
