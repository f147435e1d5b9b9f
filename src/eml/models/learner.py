"""What the loop asks of anything that trains, whatever the framework."""

import math
from typing import NamedTuple, Protocol

import numpy as np


class Score(NamedTuple):
    """Means over `examples` images, never over batches."""

    loss: float  # cross-entropy, nats
    accuracy: float  # 0 to 1
    examples: int

    @classmethod
    def mean(cls, loss_sum: float, hits: float, examples: int) -> "Score":
        """The score of sums over `examples` images; NaN for none."""
        if not examples:
            return cls(math.nan, math.nan, 0)
        return cls(loss_sum / examples, hits / examples, examples)


class Learner(Protocol):
    """What trains: a model, its optimizer and its data, all on one device."""

    hardware: dict[str, str]  # what it runs on: "hardware" (a name), "threads", ...

    def train_epoch(self, order: np.ndarray) -> Score:
        """One pass over the training images in `order` (indices, shape (images,)).

        The score is that of each batch before the step it caused.
        """

    def evaluate(self, split: str) -> Score:
        """The score on all images of a split ("train", "validation", "test"), without training."""

    def synchronize(self) -> None:
        """Return when the device has done all that it was given."""

    def state(self) -> dict[str, np.ndarray]:
        """The weights, by name, as arrays in main memory."""

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take the weights that `state` of such a learner returned."""

    def training_state(self) -> dict[str, np.ndarray]:
        """All that the next step depends on: the weights, and what the optimizer remembers."""

    def load_training_state(self, state: dict[str, np.ndarray]) -> None:
        """Take what `training_state` of such a learner returned."""

    def running_score(self) -> Score:
        """The score of the pass under way so far. May be called from another thread."""
