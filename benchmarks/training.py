"""Ways to train a network for an epoch: eml's, the computation alone, and those of peers.py.

All train on the same images with the sheet's batch size, optimizer and learning rate, and evaluate
nothing.
"""

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers
from benchmarks.images import SIZES, batches_of, dataset_of, network, timed
from benchmarks.turns import Turns, Way
from eml.config import Config
from eml.data.specs import SPECS
from eml.models.learner import Score
from eml.models.numpy_mlp import NumpyLearner
from eml.models.torch_learner import TorchLearner, has_less_precision
from eml.seeds import order_of
from eml.training.loop import EpochRecord, make_learner
from eml.training.progress import ShowEpoch

OURS = "eml"
TRACKED = "eml, with clocks and tracking"
BARE = "computation alone"  # of batches that lie in memory ready to use
COURSE = "course's way"
PRODUCTS = "matrix products alone"
KERNELS = "kernels alone"


def ways(config: Config, made_up: bool) -> dict[str, Way]:
    """Return the ways to train a Config's network that are measured, by name."""
    made: dict[str, Way] = {
        OURS: partial(ours, config, made_up),
        BARE: partial(bare, config, made_up),
    }
    if not made_up:
        made[TRACKED] = partial(tracked, config)
    if config.framework == "numpy":
        made[PRODUCTS] = partial(matrix_products, config)
        made[COURSE] = partial(peers.course_numpy, config, made_up, "first")
        made["course's way, eml's network"] = partial(peers.course_numpy, config, made_up, "same")
        if importlib.util.find_spec("sklearn"):
            made["scikit-learn"] = partial(peers.scikit_learn, config, made_up)
        return made
    on_gpu = config.device_type == "cuda"
    if on_gpu:
        made[KERNELS] = partial(kernels, config, made_up)
    else:
        made[PRODUCTS] = partial(as_many_operations, config)
    if has_less_precision(torch.device(config.device_type)):
        for precision in ("tf32", "bf16") if on_gpu else ("bf16",):
            less_exact = replace(config, precision=precision)
            made[f"eml, {precision}"] = partial(ours, less_exact, made_up)
    made[COURSE] = partial(peers.course_torch, config, made_up)
    if importlib.util.find_spec("keras"):
        made["Keras, images in memory"] = partial(peers.keras, config, made_up)
    if importlib.util.find_spec("lightning"):
        made["Lightning, images in memory"] = partial(peers.lightning, config, made_up)
    return made


def ours(config: Config, made_up: bool, turns: Turns) -> None:
    """The learner of eml, as the loop calls it."""
    dataset = dataset_of(config, made_up)
    learner = make_learner(config, dataset)
    order = order_of(config.seed, 1, len(dataset.labels["train"]))
    turns.each(timed(config, lambda: learner.train_epoch(order)))


def tracked(config: Config, turns: Turns) -> None:
    """The whole loop of eml with clocks, checkpoints and tracking, but no evaluation."""
    folder = tempfile.TemporaryDirectory()  # goes with this function
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder.name}/mlflow.db"
    os.environ["EML_CHECKPOINT_DIR"] = f"{folder.name}/checkpoints"
    from eml.launchers.base import Task
    from eml.launchers.worker import train
    from eml.tracking.store import open_store

    def skip(learner: NumpyLearner | TorchLearner, split: str) -> Score:
        return Score(2.3, 0.1, len(learner.labels[split]))

    @contextmanager
    def epoch_by_epoch(*_: object) -> Iterator[ShowEpoch]:
        """Display nothing: a turn is the time between two records."""
        start = perf_counter()

        def show(record: EpochRecord) -> None:
            nonlocal start
            if record.epoch:
                turns.report(perf_counter() - start)
            if not turns.wait():
                raise SystemExit
            start = perf_counter()

        yield show

    open_store()
    with patch.object(NumpyLearner, "evaluate", skip), patch.object(TorchLearner, "evaluate", skip):
        train(Task(config=replace(config, epochs=10**6)), epoch_by_epoch)


def bare(config: Config, made_up: bool, turns: Turns) -> None:
    """Forward, backward and step of eml's network, on batches that are ready in memory."""
    dataset = dataset_of(config, made_up)
    learner = make_learner(config, dataset)
    numpy_batches = list(batches_of(config, dataset))
    torch_batches = []
    if isinstance(learner, TorchLearner):
        for images, labels in numpy_batches:
            shaped = torch.from_numpy(images).view(-1, *SPECS[config.dataset].image_shape)
            shaped = shaped.to(learner.device, memory_format=learner.memory_format)
            torch_batches.append((shaped, torch.from_numpy(labels).to(learner.device)))

    def epoch() -> None:
        if isinstance(learner, TorchLearner):
            for inputs, targets in torch_batches:
                loss = functional.nll_loss(learner.model(inputs), targets)
                learner.optimizer.zero_grad()
                loss.backward()
                learner.optimizer.step()
        elif isinstance(learner, NumpyLearner):
            for images, labels in numpy_batches:
                learner.model.train(images, labels, config.learning_rate)

    turns.each(timed(config, epoch))


def matrix_products(config: Config, turns: Turns) -> None:
    """NumPy's products of an epoch's steps and nothing else, each on arrays of its shape."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    batch, images = config.batch_size, config.subset or SPECS[config.dataset].train_size
    layers = [
        (array(batch, inputs), array(inputs, outputs), array(batch, outputs))
        for inputs, outputs in pairwise(SIZES)
    ]
    results = [tuple(np.empty_like(factor) for factor in layer) for layer in layers]

    def epoch() -> None:
        for _ in range(images // batch):
            for number, (inputs, weights, gradient) in enumerate(layers):
                to_inputs, to_weights, to_outputs = results[number]
                np.matmul(inputs, weights, out=to_outputs)
                np.matmul(inputs.T, gradient, out=to_weights)
                if number:
                    np.matmul(gradient, weights.T, out=to_inputs)

    turns.each(timed(config, epoch))


def as_many_operations(config: Config, turns: Turns) -> None:
    """PyTorch's products of square matrices, with as many operations as an epoch's steps have."""
    model, images = network(config), config.subset or SPECS[config.dataset].train_size
    inputs = torch.zeros(config.batch_size, *SPECS[config.dataset].image_shape)
    with FlopCounterMode(display=False) as counter:
        model(inputs).sum().backward()
    operations = counter.get_total_flops() * (images // config.batch_size)
    size = 1024
    factor = torch.rand(size, size)
    result = torch.empty(size, size)

    def epoch() -> None:
        for _ in range(round(operations / (2 * size**3))):
            torch.matmul(factor, factor, out=result)

    turns.each(timed(config, epoch))


def kernels(config: Config, made_up: bool, turns: Turns) -> None:
    """The sum of what a GPU's kernels take in an epoch of eml, by PyTorch's profiler."""
    dataset = dataset_of(config, made_up)
    learner = make_learner(config, dataset)
    order = order_of(config.seed, 1, len(dataset.labels["train"]))

    def epoch() -> float:
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities, acc_events=True) as profile:
            learner.train_epoch(order)
            learner.synchronize()
        return float(sum(event.self_device_time_total for event in profile.key_averages())) / 1e6

    turns.each(epoch)
