"""The interface between the training loop and the learners of all frameworks."""

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class Score(NamedTuple):
    """Loss and accuracy as means over `examples` images, never over batches."""

    loss: float  # cross-entropy, nats
    accuracy: float  # 0 to 1
    examples: int

    @classmethod
    def mean(cls, loss_sum: float, hits: float, examples: int) -> "Score":
        """Make the score from sums over `examples` images; NaN if there are none."""
        if not examples:
            return cls(math.nan, math.nan, 0)
        return cls(loss_sum / examples, hits / examples, examples)


class Learner(Protocol):
    """Trains a model: holds the model, its optimizer and its data on one device."""

    hardware: str  # the name of the processor or GPU
    parameters: int  # numbers that are trained

    def use_threads(self, number: int) -> None:
        """Compute with this number of threads on the CPU from now on."""

    def practise(self) -> None:
        """Make a step with learning rate 0, to be timed; load training_state() of before it then.

        It changes the optimizer's state, and the weights of an optimizer whose step has a minimum.
        """

    def train_epoch(self, order: np.ndarray) -> Score:
        """Make one pass over the training images in `order` (indices, shape (images,)).

        Scores each batch before the step on that batch.
        """

    def evaluate(self, split: str) -> Score:
        """Score all images of a split ("train", "validation", "test"), without training."""

    def synchronize(self) -> None:
        """Wait until the device has completed all its work."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights, by name, as arrays in main memory."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Load the weights that state() returned."""

    def training_state(self) -> dict[str, np.ndarray]:
        """Return weights and optimizer's state: everything that the next step depends on."""

    def load_training_state(self, state: dict[str, np.ndarray]) -> None:
        """Load the result of training_state()."""

    def running_score(self) -> Score:
        """Return the score of the current pass so far. Another thread may call this."""
