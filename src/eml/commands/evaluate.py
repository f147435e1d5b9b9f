"""The `evaluate` command: scores the weights of a run and compares with its logged accuracy."""

import dataclasses
import sys

import click

from eml.config import AUTO, no_effect, resolve_device
from eml.errors import UserError

# Largest difference between accuracies that rounding on another processor can cause.
LARGEST_DIFFERENCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 1e-2}


@click.command()
@click.argument("id")
@click.option("--device", default=AUTO, show_default=True, help="auto, cpu or cuda")
def evaluate(id: str, device: str) -> None:
    """Load the weights of the run ID after its last epoch; compare their accuracy with the logged.

    Exits with code 1 if the accuracies differ by more than 0.1 percentage points, which another
    processor's rounding cannot explain (1 point for precision=tf32 or bf16).
    """
    device_type = resolve_device(device)
    from eml.tracking.models import load_model
    from eml.tracking.reap import begin
    from eml.training.loop import load_for, make_learner

    begin(makes_run=False)
    stored = load_model(id)
    config = stored.config
    largest = LARGEST_DIFFERENCE[config.precision]
    if config.framework == "torch":
        precision = config.precision if device_type == "cuda" else "fp32"
        config = dataclasses.replace(config, device_type=device_type, precision=precision)
    elif device != AUTO:
        raise no_effect("device", device, f"framework={config.framework}")
    learner = make_learner(config, load_for(config))
    try:
        learner.load_state(stored.weights)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"the weights of run {id} do not fit its network") from error
    score = learner.evaluate(config.evaluated)
    print(
        f"{config.run_name}: {config.evaluated} accuracy {score.accuracy:.4f} "
        f"on {score.examples} images, logged {stored.accuracy:.4f}"
    )
    if not abs(score.accuracy - stored.accuracy) <= largest:  # also reached if one is NaN
        print("the accuracies differ", file=sys.stderr)
        sys.exit(1)
