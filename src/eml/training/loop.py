"""The training loop: owns the order of the data and the clocks, yields a record per epoch."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter, process_time, time_ns
from typing import Any

import numpy as np

from eml.config import Config
from eml.data.datasets import Dataset, load
from eml.models import own_code
from eml.models.learner import Learner, Score
from eml.models.numpy_mlp import NumpyLearner
from eml.seeds import order_of
from eml.training.threads import CHOOSE, Asked, Threads

# Fields of EpochRecord that continue where an interrupted training ended.
CLOCKS = ("setup_seconds", "train_seconds", "train_cpu_seconds", "eval_seconds")


@dataclass(frozen=True)
class EpochRecord:
    """Scores and clocks after an epoch; epoch 0 is the untrained model.

    Either test or validation images are evaluated (Config.validation); the other scores are None.
    Clocks count seconds since the start of the training.
    """

    epoch: int
    train_loss: float  # mean over the images as they are trained; evaluated in epoch 0
    train_accuracy: float
    train_seconds: float  # the training steps alone
    eval_seconds: float
    wall_seconds: float  # everything since the data were loaded, logging included
    setup_seconds: float  # model, transfer to the device, warm-up
    images_per_second: float  # trained in this epoch; NaN in epoch 0
    test_loss: float | None = None
    test_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    # A field that was added later has a default: checkpoints and stores outlive versions.
    train_cpu_seconds: float | None = None  # of all threads, during train_seconds
    next_threads: int | None = None  # number of threads that the training goes on with
    # Seconds of this epoch over those that it takes on an idle machine; CPU alone (threads.py).
    slowdown: float | None = None
    timestamp: int = 0  # when the epoch was over, in milliseconds since 1970

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite; all scores are NaN then."""
        return math.isnan(self.train_loss)

    @property
    def evaluated(self) -> str:
        """The split that was evaluated, "test" or "validation"."""
        return "validation" if self.test_loss is None else "test"

    @property
    def loss(self) -> float:
        """The loss of the evaluated split."""
        return float(getattr(self, f"{self.evaluated}_loss"))

    @property
    def accuracy(self) -> float:
        """The accuracy of the evaluated split."""
        return float(getattr(self, f"{self.evaluated}_accuracy"))


def load_for(config: Config) -> Dataset:
    """The dataset that a Config describes."""
    return load(config.dataset, config.subset, config.seed, config.validation)


def make_learner(config: Config, dataset: Dataset, code: str = "") -> Learner:
    """The learner that a Config describes, warmed up. code: the path of the user's own code."""
    own = own_code.load(code, config.code_sha256) if config.code_sha256 else None
    if config.framework == "numpy":
        return NumpyLearner(config, dataset, own)
    from eml.models.torch_learner import TorchLearner  # torch takes seconds to import

    return TorchLearner(config, dataset, own)


def timed(
    learner: Learner, function: Callable[[Any], Score], argument: object
) -> tuple[Score, float, float]:
    """Call a function of the learner; return its score, its seconds, and its CPU seconds."""
    learner.synchronize()
    cpu_start, start = process_time(), perf_counter()
    score = function(argument)
    learner.synchronize()
    return score, perf_counter() - start, process_time() - cpu_start


class TrainingLoop:
    """One training. Iterate over it once to get its EpochRecords; `learner` holds the model.

    A loss that is not finite ends the training with a record of NaNs.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        last: EpochRecord | None = None,
        state: dict[str, np.ndarray] | None = None,
        asked: Asked = CHOOSE,
        code: str = "",  # path of the user's own
    ):
        """last, state: continue after this record, with the result of Learner.training_state.

        The clocks continue from the record, so they do not count the pause.
        """
        self.config, self.last = config, last
        self.epoch = last.epoch if last else 0  # the current epoch, for displays
        self.evaluating = True
        self._started = perf_counter() - (last.wall_seconds if last else 0.0)
        self._clocks = {name: (last and getattr(last, name)) or 0.0 for name in CLOCKS}
        self.learner = make_learner(config, dataset, code)
        if state is not None:
            self.learner.load_training_state(state)
        self.threads = Threads(self.learner, config, asked, last.next_threads if last else None)
        self.images = {split: len(labels) for split, labels in dataset.labels.items()}
        self.learner.synchronize()
        if not last:
            self._clocks["setup_seconds"] = perf_counter() - self._started

    def __iter__(self) -> Iterator[EpochRecord]:
        if self.last is None:
            yield self._record(self._evaluate("train"), images_per_second=math.nan)
        elif self.last.diverged:
            return
        for epoch in range(self.epoch + 1, self.config.epochs + 1):
            self.epoch, self.evaluating = epoch, False
            order = order_of(self.config.seed, epoch, self.images["train"])
            train, seconds, cpu_seconds = timed(self.learner, self.learner.train_epoch, order)
            self._clocks["train_seconds"] += seconds
            self._clocks["train_cpu_seconds"] += cpu_seconds
            self.threads.after_epoch(epoch, train.examples, seconds, cpu_seconds)
            record = self._record(train, images_per_second=train.examples / seconds)
            yield record
            if record.diverged:
                return

    def _evaluate(self, split: str) -> Score:
        self.evaluating = True
        score, seconds, _ = timed(self.learner, self.learner.evaluate, split)
        self._clocks["eval_seconds"] += seconds
        return score

    def _record(self, train: Score, images_per_second: float) -> EpochRecord:
        split = self.config.evaluated
        held_out = self._evaluate(split)
        assert train.examples == self.images["train"], "a training image was left out"
        assert held_out.examples == self.images[split], f"a {split} image was left out"
        scores = {
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            f"{split}_loss": held_out.loss,
            f"{split}_accuracy": held_out.accuracy,
        }
        if not (math.isfinite(train.loss) and math.isfinite(held_out.loss)):
            scores = dict.fromkeys(scores, math.nan)
        return EpochRecord(
            epoch=self.epoch,
            **scores,
            **self._clocks,
            wall_seconds=perf_counter() - self._started,
            images_per_second=images_per_second,
            next_threads=self.threads.number,
            slowdown=self.threads.slowdown,
            timestamp=time_ns() // 1_000_000,
        )
