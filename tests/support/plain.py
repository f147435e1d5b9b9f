"""The trainings as one writes them by hand, in double precision: the reference of the tests.

Of eml only the Config is taken: data, random streams, networks and scores are written out here.
"""

from itertools import zip_longest

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from eml.config import Config
from support import synthetic

MEAN_AND_DEVIATION = {"mnist": (0.1307, 0.3081), "cifar10": (0.0, 1.0)}  # of pixels from 0 to 1
Data = dict[str, tuple[np.ndarray, np.ndarray]]  # images and labels of each split


def chosen(labels: np.ndarray, size: int, stream: list[int]) -> list[int]:
    """The indices of `size` labels: one of each class in turn, at random within a class."""
    rng = np.random.default_rng(stream)
    piles = [
        rng.permutation([index for index, label in enumerate(labels) if label == number])
        for number in range(10)
    ]
    turns = [index for turn in zip_longest(*piles) for index in turn if index is not None]
    return sorted(turns[:size])


def data(dataset: str, subset: int, seed: int, validation: int) -> Data:
    """The images and labels that a training with these values gets, of the synthetic datasets."""
    made = synthetic.arrays(dataset)
    splits = {s: (made[f"{s}_images"], made[f"{s}_labels"].astype(int)) for s in ("train", "test")}
    if subset:
        for split, size, stream in (("train", subset, [seed, 0]), ("test", subset // 5, [0, 0, 3])):
            images, labels = splits[split]
            kept = chosen(labels, size, stream)
            splits[split] = images[kept], labels[kept]
    if validation:
        images, labels = splits["train"]
        held_out = chosen(labels, validation, [seed, 0, 2])
        kept = [index for index in range(len(labels)) if index not in held_out]
        splits = {"train": (images[kept], labels[kept])}
        splits["validation"] = images[held_out], labels[held_out]
    return splits


def network_of(config: Config) -> nn.Sequential:
    """The network of the sheets with its initial weights, in double precision."""
    torch.manual_seed(config.seed)
    layers: list[nn.Module]
    if config.model == "cnn":
        layers = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU()]
        layers += [nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Flatten()]
        layers += [nn.Linear(18432, 128), nn.ReLU(), nn.Linear(128, 10)]
    else:
        activation = {"sigmoid": nn.Sigmoid(), "relu": nn.ReLU()}[config.activation]
        inputs = {"mnist": 28 * 28, "cifar10": 3 * 32 * 32}[config.dataset]
        layers = [nn.Flatten(), nn.Linear(inputs, 512), activation]
        layers += [nn.Linear(512, 128), activation, nn.Linear(128, 10)]
    network = nn.Sequential(*layers).double()
    if config.init == "template":
        rng = np.random.default_rng([config.seed, 0, 1])
        for layer in layers:
            if isinstance(layer, nn.Linear):
                shape = layer.in_features, layer.out_features
                weight, bias = rng.standard_normal(shape), rng.standard_normal(shape[1])
                layer.weight.data = torch.tensor(weight.T * np.sqrt(1 / shape[0]))
                layer.bias.data = torch.tensor(bias * np.sqrt(1 / shape[0]))
    return network


def train(config: Config) -> tuple[list[dict[str, float]], nn.Sequential]:
    """The scores after each epoch, from 0 on, and the network after the last."""
    mean, deviation = MEAN_AND_DEVIATION[config.dataset]
    splits = {
        split: ((torch.tensor(images).double() / 255 - mean) / deviation, torch.tensor(labels))
        for split, (images, labels) in data(
            config.dataset, config.subset, config.seed, config.validation
        ).items()
    }
    (_, (images, labels)), (held_out, (held_images, held_labels)) = splits.items()
    network = network_of(config)
    classes = {name.lower(): made for name, made in vars(torch.optim).items()}
    if config.optimizer == "momentum":
        optimizer = torch.optim.SGD(network.parameters(), config.learning_rate, config.momentum)
    else:
        optimizer = classes[config.optimizer](network.parameters(), config.learning_rate)
    epochs = []
    for epoch in range(config.epochs + 1):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(labels))
        total, hits = 0.0, 0
        for start in range(0, len(order), config.batch_size):
            index = order[start : start + config.batch_size]
            logits = network(images[index])
            loss = cross_entropy(logits, labels[index])
            total += loss.item() * len(index)
            hits += (logits.argmax(dim=1) == labels[index]).sum().item()
            if epoch > 0:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            logits = network(held_images)
        epochs.append(
            {
                "train_loss": total / len(labels),
                "train_accuracy": hits / len(labels),
                f"{held_out}_loss": cross_entropy(logits, held_labels).item(),
                f"{held_out}_accuracy": (logits.argmax(dim=1) == held_labels)
                .double()
                .mean()
                .item(),
            }
        )
    return epochs, network
