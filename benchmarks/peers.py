"""Other ways to train a network for an epoch: the course's, scikit-learn's, Lightning's, Keras'."""

import os
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms
from torchvision.datasets import CIFAR10, MNIST

from benchmarks.images import SIZES, dataset_of, network, synchronize, timed, whole
from benchmarks.turns import Turns
from eml.config import Config
from eml.data.specs import SPECS
from eml.models.numpy_mlp import MLP, initial_weights


class FirstMLP:
    """The network as one writes it at first, from the course's template."""

    def __init__(self) -> None:
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

    def __init__(self) -> None:
        self.model = MLP(initial_weights(SIZES, seed=1), rows=64)

    def train(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        self.model.train(images, labels, learning_rate)


def courses_loader(config: Config, made_up: bool, **options: Any) -> DataLoader[Any]:
    """A DataLoader over torchvision's dataset: PIL image by image, ToTensor and Normalize."""
    dataset = dataset_of(config, made_up)
    images, labels = dataset.images["train"], dataset.labels["train"]
    steps: list[Any] = [transforms.ToTensor()]
    if config.dataset == "mnist":
        data = MNIST.__new__(MNIST)  # without a look at files: the arrays are here
        data.data, data.targets = torch.from_numpy(images), torch.from_numpy(labels)
        steps.append(transforms.Normalize((dataset.scaling.mean,), (dataset.scaling.std,)))
    else:
        data = CIFAR10.__new__(CIFAR10)
        data.data = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        data.targets = labels.tolist()
    data.transform, data.target_transform = transforms.Compose(steps), None
    return DataLoader(data, config.batch_size, shuffle=True, **options)


def course_numpy(config: Config, made_up: bool, network: str, turns: Turns) -> None:
    """The course's loader before a NumPy network: as first written, or eml's."""
    loader = courses_loader(config, made_up)
    trained: FirstMLP | SameMLP = FirstMLP() if network == "first" else SameMLP()

    def epoch() -> None:
        for images, labels in loader:
            inputs = images.numpy().reshape(len(images), -1).astype(np.float64)
            trained.train(inputs, labels.numpy(), config.learning_rate)

    turns.each(timed(config, epoch))


def course_torch(config: Config, made_up: bool, turns: Turns) -> None:
    """The template's loop: the loader, plain SGD, a loss printed every ten batches."""
    cuda = config.device_type == "cuda"
    loader = courses_loader(config, made_up, num_workers=int(cuda), pin_memory=cuda)
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


def scikit_learn(config: Config, made_up: bool, turns: Turns) -> None:
    """MLPClassifier, an epoch of it by partial_fit, on scaled images in memory."""
    from sklearn.neural_network import MLPClassifier

    images, labels = whole(config, made_up)
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
    images, labels = whole(config, made_up)
    inputs = torch.from_numpy(images).view(-1, *SPECS[config.dataset].image_shape)
    in_memory = TensorDataset(inputs, torch.from_numpy(labels))
    loader = DataLoader(in_memory, config.batch_size, shuffle=True)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(config)

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            images, labels = batch
            return functional.nll_loss(self.model(images), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=config.learning_rate)

        def on_train_epoch_start(self) -> None:
            synchronize(config)
            self.start = perf_counter()

        def on_train_epoch_end(self) -> None:
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

    images, labels = whole(config, made_up)
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
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            synchronize(config)
            self.start = perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            synchronize(config)
            turns.report(perf_counter() - self.start)
            if not turns.wait():
                raise SystemExit

    turns.wait()
    callbacks = [EpochByEpoch()]
    model.fit(images, labels, config.batch_size, 10**6, verbose=0, callbacks=callbacks)
