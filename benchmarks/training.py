"""Ways to train a network for an epoch: eml's, the course's, others', and the computation alone.

All train on the same images with the sheet's batch size, optimizer and learning rate, and evaluate
nothing.
"""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import CIFAR10, MNIST

from benchmarks.turns import Turns, Way
from eml.config import Config
from eml.data.datasets import Dataset
from eml.data.specs import SPECS
from eml.models.learner import Learner, Score
from eml.models.numpy_mlp import MLP, NumpyLearner, initial_weights, mlp_sizes
from eml.models.torch_learner import TorchLearner, has_less_precision
from eml.models.torch_networks import cnn, mlp
from eml.seeds import order_of
from eml.training.loop import load_for, make_learner

SIZES = mlp_sizes(784)
OURS = "eml"
TRACKED = "eml, with clocks and tracking"
BARE = "computation alone"  # of batches that lie in memory ready to use
COURSE = "course's way"
PRODUCTS = "matrix products alone"
KERNELS = "kernels alone"


def ways(config: Config, made_up: bool) -> dict[str, Way]:
    """By name what is measured of a Config's network."""
    found = {OURS: partial(ours, config, made_up), BARE: partial(bare, config, made_up)}
    if importlib.util.find_spec("mlflow") and not made_up:
        found[TRACKED] = partial(tracked, config)
    if config.framework == "numpy":
        found[PRODUCTS] = partial(matrix_products, config)
        found[COURSE] = partial(course_numpy, config, made_up, "first")
        found["course's way, eml's network"] = partial(course_numpy, config, made_up, "same")
        if importlib.util.find_spec("sklearn"):
            found["scikit-learn"] = partial(scikit_learn, config, made_up)
        return found
    on_gpu = config.device_type == "cuda"
    if on_gpu:
        found[KERNELS] = partial(kernels, config, made_up)
    else:
        found[PRODUCTS] = partial(as_many_operations, config)
    if has_less_precision(torch.device(config.device_type)):
        for precision in ("tf32", "bf16") if on_gpu else ("bf16",):
            less_exact = replace(config, precision=precision)
            found[f"eml, {precision}"] = partial(ours, less_exact, made_up)
    found[COURSE] = partial(course_torch, config, made_up)
    if importlib.util.find_spec("keras"):
        found["Keras, images in memory"] = partial(keras, config, made_up)
    if importlib.util.find_spec("lightning"):
        found["Lightning, images in memory"] = partial(lightning, config, made_up)
    return found


def dataset_of(config: Config, made_up: bool) -> Dataset:
    """The images of a Config, or as many made up, with which the arithmetic takes as long."""
    if not made_up:
        return load_for(config)
    spec, rng = SPECS[config.dataset], np.random.default_rng(0)
    train = config.subset or spec.train_size
    sizes = {"train": train, "test": train // 5}
    images = {k: rng.integers(256, size=(n, *spec.image_shape)) for k, n in sizes.items()}
    labels = {k: rng.integers(10, size=n) for k, n in sizes.items()}
    images = {k: v.astype(np.uint8) for k, v in images.items()}
    return Dataset(config.dataset, images, labels, spec.scaling, "made up")


def synchronize(config: Config) -> None:
    if config.device_type == "cuda":
        torch.cuda.synchronize()


def timed(config: Config, epoch: Callable[[], object]) -> Callable[[], float]:
    """A function that returns the seconds of an epoch, on the GPU, too."""

    def measure() -> float:
        synchronize(config)
        start = perf_counter()
        epoch()
        synchronize(config)
        return perf_counter() - start

    return measure


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

    def skip(learner: Learner, split: str) -> Score:
        return Score(2.3, 0.1, len(learner.labels[split]))

    NumpyLearner.evaluate = TorchLearner.evaluate = skip
    open_store()

    class EpochByEpoch:
        """In place of the progress display: a turn is what lies between two records."""

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def show(self, record):
            if record.epoch:
                turns.report(perf_counter() - self.start)
            if not turns.wait():
                raise SystemExit
            self.start = perf_counter()

    train(Task(config=replace(config, epochs=10**6)), EpochByEpoch)


def bare(config: Config, made_up: bool, turns: Turns) -> None:
    """Forward, backward and step of eml's network, on batches that are ready in memory."""
    dataset = dataset_of(config, made_up)
    learner = make_learner(config, dataset)
    if config.framework == "numpy":
        batches = list(_arrays(config, dataset))

        def epoch() -> None:
            for images, labels in batches:
                learner.model.forward(images, labels)
                learner.model.step(config.learning_rate)

    else:
        batches = [
            (
                torch.from_numpy(images)
                .view(-1, *SPECS[config.dataset].image_shape)
                .to(learner.device, memory_format=learner.memory_format),
                torch.from_numpy(labels).to(learner.device),
            )
            for images, labels in _arrays(config, dataset)
        ]

        def epoch() -> None:
            for images, labels in batches:
                loss = functional.nll_loss(learner.model(images), labels)
                learner.optimizer.zero_grad()
                loss.backward()
                learner.optimizer.step()

    turns.each(timed(config, epoch))


def _arrays(config: Config, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches as (batch, inputs) in float32, scaled, and their labels."""
    images, labels = dataset.images["train"], dataset.labels["train"]
    order = order_of(config.seed, 1, len(labels))
    for start in range(0, len(labels), config.batch_size):
        index = order[start : start + config.batch_size]
        scaled = images[index].reshape(len(index), -1).astype(np.float32)
        scaled *= dataset.scaling.factor
        scaled += dataset.scaling.offset
        yield scaled, labels[index]


def _whole(config: Config, made_up: bool) -> tuple[np.ndarray, np.ndarray]:
    """All training images as (images, inputs) in float32, scaled, and their labels."""
    batches = list(_arrays(config, dataset_of(config, made_up)))
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return images, labels


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
        return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6

    turns.each(epoch)


class FirstMLP:
    """The network as one writes it at first, from the course's template."""

    def __init__(self):
        weights = initial_weights(SIZES, seed=1)
        self.weights = [weights[f"weights_{number}"] for number in (1, 2, 3)]
        self.biases = [weights[f"bias_{number}"] for number in (1, 2, 3)]

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        targets = np.eye(10)[labels]  # (batch, 10)
        inputs = [images]  # of each layer
        for layer in (0, 1):
            sums = inputs[-1] @ self.weights[layer] + self.biases[layer]
            inputs.append(1 / (1 + np.exp(-sums)))
        sums = inputs[-1] @ self.weights[2] + self.biases[2]
        exponentials = np.exp(sums - sums.max(axis=1, keepdims=True))
        gradient = exponentials / exponentials.sum(axis=1, keepdims=True) - targets
        for layer in (2, 1, 0):
            weights_gradient = inputs[layer].T @ gradient / len(images)
            bias_gradient = gradient.sum(axis=0) / len(images)
            gradient = gradient @ self.weights[layer].T
            if layer:
                gradient = gradient * inputs[layer] * (1 - inputs[layer])
            self.weights[layer] = self.weights[layer] - learning_rate * weights_gradient
            self.biases[layer] = self.biases[layer] - learning_rate * bias_gradient


class SameMLP:
    """eml's network in float64."""

    def __init__(self):
        self.model = MLP(initial_weights(SIZES, seed=1), rows=64)

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        self.model.forward(images, labels)
        self.model.step(learning_rate)


def courses_loader(config: Config, made_up: bool, **options) -> DataLoader:
    """A DataLoader over torchvision's dataset: PIL image by image, ToTensor and Normalize."""
    dataset = dataset_of(config, made_up)
    images, labels = dataset.images["train"], dataset.labels["train"]
    steps = [transforms.ToTensor()]
    if config.dataset == "mnist":
        found = MNIST.__new__(MNIST)  # without a look at files: the arrays are here
        found.data, found.targets = torch.from_numpy(images), torch.from_numpy(labels)
        steps.append(transforms.Normalize((dataset.scaling.mean,), (dataset.scaling.std,)))
    else:
        found = CIFAR10.__new__(CIFAR10)
        found.data = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        found.targets = labels.tolist()
    found.transform, found.target_transform = transforms.Compose(steps), None
    return DataLoader(found, config.batch_size, shuffle=True, **options)


def course_numpy(config: Config, made_up: bool, network: str, turns: Turns) -> None:
    """The course's loader before a NumPy network: as first written, or eml's."""
    loader = courses_loader(config, made_up)
    trained = FirstMLP() if network == "first" else SameMLP()

    def epoch() -> None:
        for images, labels in loader:
            inputs = images.numpy().reshape(len(images), -1).astype(np.float64)
            trained.train(inputs, labels.numpy(), config.learning_rate)

    turns.each(timed(config, epoch))


def course_torch(config: Config, made_up: bool, turns: Turns) -> None:
    """The template's loop: the loader, plain SGD, a loss printed every ten batches."""
    cuda = config.device_type == "cuda"
    options = {"num_workers": 1, "pin_memory": True} if cuda else {}
    loader = courses_loader(config, made_up, **options)
    device = torch.device(config.device_type)
    model = network(config).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)

    def epoch() -> None:
        model.train()
        with open(os.devnull, "w") as output:
            for number, (images, labels) in enumerate(loader):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                loss = functional.nll_loss(model(images), labels)
                loss.backward()
                optimizer.step()
                if number % 10 == 0:
                    print(f"loss {loss.item():.6f}", file=output)

    turns.each(timed(config, epoch))


def network(config: Config) -> nn.Module:
    """The sheet's network with PyTorch's own layers."""
    return cnn() if config.model == "cnn" else mlp(784, config.activation)


def scikit_learn(config: Config, made_up: bool, turns: Turns) -> None:
    """MLPClassifier, an epoch of it by partial_fit, on scaled images in memory."""
    from sklearn.neural_network import MLPClassifier

    images, labels = _whole(config, made_up)
    _, *hidden, _ = SIZES
    classifier = MLPClassifier(
        hidden_layer_sizes=hidden,
        activation="logistic",
        solver="sgd",
        batch_size=config.batch_size,
        learning_rate_init=config.learning_rate,
        momentum=0,
        nesterovs_momentum=False,
        alpha=0,
    )
    turns.each(timed(config, lambda: classifier.partial_fit(images, labels, classes=np.arange(10))))


def lightning(config: Config, made_up: bool, turns: Turns) -> None:
    """Lightning's Trainer without logger, checkpoints and progress bar, on a TensorDataset."""
    import logging
    import warnings

    warnings.simplefilter("ignore")  # of its own
    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    images, labels = _whole(config, made_up)
    images = torch.from_numpy(images).view(-1, *SPECS[config.dataset].image_shape)
    loader = DataLoader(
        TensorDataset(images, torch.from_numpy(labels)), config.batch_size, shuffle=True
    )

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = network(config)

        def training_step(self, batch, _):
            images, labels = batch
            return functional.nll_loss(self.model(images), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=config.learning_rate)

        def on_train_epoch_start(self):
            synchronize(config)
            self.start = perf_counter()

        def on_train_epoch_end(self):
            synchronize(config)
            turns.report(perf_counter() - self.start)
            if not turns.wait():
                raise SystemExit

    trainer = pl.Trainer(
        accelerator="gpu" if config.device_type == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    turns.wait()
    trainer.fit(Module(), loader)


def keras(config: Config, made_up: bool, turns: Turns) -> None:
    """Keras' fit on PyTorch, on arrays in memory."""
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["CUDA_VISIBLE_DEVICES"] = "0" if config.device_type == "cuda" else ""
    import keras
    from keras import layers

    images, labels = _whole(config, made_up)
    if config.model == "cnn":
        images = images.reshape(-1, *SPECS[config.dataset].image_shape).transpose(0, 2, 3, 1)
        inside = [
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.Conv2D(128, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
        ]
    else:
        inside = [layers.Dense(n, activation=config.activation) for n in (512, 128)]
    model = keras.Sequential([*inside, layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.SGD(config.learning_rate), "sparse_categorical_crossentropy")

    class EpochByEpoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            synchronize(config)
            self.start = perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            synchronize(config)
            turns.report(perf_counter() - self.start)
            if not turns.wait():
                raise SystemExit

    turns.wait()
    callbacks = [EpochByEpoch()]
    model.fit(images, labels, config.batch_size, 10**6, verbose=0, callbacks=callbacks)
