"""The training loop: one order of the data, one owner of the clocks, one record an epoch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from eml.config import Config
from eml.data import Dataset
from eml.learner import Learner, Score
from eml.numpy_mlp import NumpyLearner


@dataclass(frozen=True)
class EpochRecord:
    """What is known after an epoch; epoch 0 is the untrained model.

    Seconds count from the start of the training. `train_seconds` holds the training steps alone
    and `eval_seconds` the evaluations; `wall_seconds` is everything since the data were loaded:
    these two, the set-up (`setup_seconds`: model, transfer to the device, warm-up), and whatever
    was done with the records.
    """

    epoch: int
    train_loss: float  # over the epoch's examples as they are trained; evaluated in epoch 0
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    train_seconds: float
    eval_seconds: float
    wall_seconds: float
    setup_seconds: float
    images_per_second: float  # of this epoch's training; NaN in epoch 0

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite; then all four scores are NaN."""
        return math.isnan(self.train_loss)


def order_of(seed: int, epoch: int, images: int) -> np.ndarray:
    """The order of the training images in an epoch (1, 2, ...), int64, shape (images,).

    It depends on nothing else, so every device and framework sees the same batches.
    """
    return np.random.default_rng([seed, epoch]).permutation(images)


def make_learner(config: Config, dataset: Dataset) -> Learner:
    """The learner that a Config describes, warmed up."""
    if config.framework == "numpy":
        return NumpyLearner(config, dataset)
    from eml.torch_models import TorchLearner  # torch takes seconds to import

    return TorchLearner(config, dataset)


class Training:
    """One training. Iterate over it, once, for its EpochRecords; `learner` holds the model.

    It ends early, with a record of NaNs, when a loss is not finite.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self.config = config
        self.epoch = 0  # the one under way, for whoever looks on
        self.evaluating = True
        self._started = perf_counter()
        self.learner = make_learner(config, dataset)
        self.images = {split: len(dataset.labels[split]) for split in ("train", "test")}
        self.learner.synchronize()
        self._setup_seconds = perf_counter() - self._started
        self._train_seconds = 0.0
        self._eval_seconds = 0.0

    def __iter__(self) -> Iterator[EpochRecord]:
        train = self._evaluate("train")
        yield self._record(train, images_per_second=math.nan)
        for epoch in range(1, self.config.epochs + 1):
            self.epoch = epoch
            self.evaluating = False
            order = order_of(self.config.seed, epoch, self.images["train"])
            self.learner.synchronize()
            start = perf_counter()
            train = self.learner.train_epoch(order)
            self.learner.synchronize()
            seconds = perf_counter() - start
            self._train_seconds += seconds
            record = self._record(train, images_per_second=train.examples / seconds)
            yield record
            if record.diverged:
                return

    def _evaluate(self, split: str) -> Score:
        self.evaluating = True
        start = perf_counter()
        score = self.learner.evaluate(split)
        self.learner.synchronize()
        self._eval_seconds += perf_counter() - start
        return score

    def _record(self, train: Score, images_per_second: float) -> EpochRecord:
        test = self._evaluate("test")
        assert train.examples == self.images["train"], "a training image was left out"
        assert test.examples == self.images["test"], "a test image was left out"
        scores = (train.loss, train.accuracy, test.loss, test.accuracy)
        if not (math.isfinite(train.loss) and math.isfinite(test.loss)):
            scores = (math.nan,) * 4
        return EpochRecord(
            self.epoch,
            *scores,
            train_seconds=self._train_seconds,
            eval_seconds=self._eval_seconds,
            wall_seconds=perf_counter() - self._started,
            setup_seconds=self._setup_seconds,
            images_per_second=images_per_second,
        )
