"""Experiment tracking on MLflow for the exercises of the course Embedded Machine Learning.

For a notebook: `eml.load_history()` and `eml.load_model()`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from eml.config import Config
    from eml.models.numpy_mlp import MLP

__all__ = ["load_history", "load_model"]


def load_history(
    recipe: str = "",
    *,
    experiment: str = "",
    runs: Sequence[str] = (),
    filter: str = "",
    stores: Sequence[str] = (),
) -> "pd.DataFrame":
    """The histories of trainings, a row for each run and epoch; epoch 0 is before training.

    Takes the same runs as `eml compare` with these options: by default the newest finished group of
    trainings. The store is MLflow's: that of mlflow.set_tracking_uri, or of the working directory.
    runs: ids; that of a parent run stands for its trainings. stores: of others, read too: mlflow.db
    files, or addresses of servers.

    Columns:
        store (text; "" for the store here)
        run_id, run_name, status, experiment_id (text), start_time (milliseconds since 1970)
        every field of Config, `learning_rate` (float) and `seed` (int) say, with the train_images
            and test_images (int) and the parameters (int, weights of the network)
        tags, text: recipe, hardware, threads, dataset_digest, git_commit and others
        diverged (int): the epoch in which a score was not finite; -1 if there is none
        epoch (int)
        train_loss, test_loss, validation_loss: cross-entropy in nats, the mean over images
        train_accuracy, test_accuracy, validation_accuracy: 0 to 1
        train_seconds, eval_seconds, wall_seconds: since the start of the training; wall_seconds
            counts everything, logging included
        train_cpu_seconds: of all threads; setup_seconds: in epoch 0 alone
        images_per_second: trained in this epoch
        next_threads: number of threads of the next epoch
        slowdown: seconds of this epoch over those on an idle machine, on a CPU
    A training is evaluated on test or on validation images, and the other columns are NaN. After a
    divergence all scores of its last epoch are NaN.

    Raises eml.errors.UserError if there is nothing to load.
    """
    # Here, because `eml --help` must not wait for mlflow.
    from eml.analysis.options import Selection
    from eml.tracking import history
    from eml.tracking.find import open_others

    selection = Selection(experiment=experiment, recipe=recipe, runs=",".join(runs), filter=filter)
    frame, left_out = history.load_history(selection, open_others(stores))
    for line in left_out:
        print(line)
    return frame


def load_model(run_id: str) -> "tuple[Config, nn.Module | MLP]":
    """The Config of a finished training, and its network with the final weights, on the CPU.

    run_id: of the store here; its first digits suffice. Images are scaled as (byte / 255 -
    scaling_mean) / scaling_std (columns of load_history), in Config's dtype. The module, in eval
    mode, maps (batch, 28, 28) or (batch, 3, 32, 32) to log-probabilities (batch, 10). The NumPy
    MLP's forward(images, labels) takes (batch, inputs), for at most all test images, and (batch,);
    it returns losses (batch,) and logits (batch, 10), which its next call overwrites.

    Raises eml.errors.UserError if there is no such model.
    """
    import torch

    from eml.data.specs import SPECS
    from eml.errors import UserError
    from eml.models import numpy_mlp, torch_networks
    from eml.tracking import models, store

    store.open_store(create=False)
    config, weights, _ = models.load_model(run_id)
    try:
        if config.framework == "numpy":
            return config, numpy_mlp.MLP(weights, SPECS[config.dataset].test_size)
        network = torch_networks.make_model(config)
        network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights})
        return config, network.eval()
    except (KeyError, RuntimeError) as error:
        raise UserError(f"the weights of run {run_id} do not fit its Config") from error
