"""Estimates how long trainings take, from a few batches of each kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from time import perf_counter
from typing import Any

from eml.config import Config
from eml.data.specs import SPECS
from eml.models.own_code import errors_shown
from eml.seeds import order_of
from eml.training.loop import TrainingLoop, load_for, make_learner, timed
from eml.training.threads import CHOOSE, Asked

PROBE_SECONDS = 3.0  # of training
# Rough guesses for an SQLite store; they matter little if an epoch takes seconds.
SECONDS_A_TRAINING = 0.8  # to make and end its run, without figures
SECONDS_AN_EPOCH = 0.15  # to log the record and write the checkpoint


@dataclass(frozen=True)
class Cost:
    """The costs of a kind of training, in seconds."""

    setup: float
    train_image: float
    evaluate_image: float


Costs = dict[tuple[Any, ...], Cost]  # by kind_of(config)
# The Config fields that determine the time per image.
kind_of = attrgetter(
    *("framework", "model", "dataset", "optimizer"),
    *("batch_size", "dtype", "device_type", "precision"),
)


@errors_shown()
def probe(config: Config, asked: Asked = CHOOSE, code: str = "") -> Cost:
    """Time some training batches and one evaluation of a Config. Logs nothing. code: as in Task."""
    make_learner(config, load_for(config), code)  # so that imports do not count
    start = perf_counter()
    training = TrainingLoop(config, load_for(config), asked=asked, code=code)
    setup = perf_counter() - start
    learner, all_images = training.learner, training.images["train"]
    order = order_of(config.seed, 1, all_images)
    images, seconds = 0, 0.0
    while seconds < PROBE_SECONDS:
        # Larger and larger chunks, so that the clock is read seldom.
        size = min(max(config.batch_size, images), all_images)
        _, more, _ = timed(learner, learner.train_epoch, order[:size])
        images, seconds = images + size, seconds + more
    score, evaluation, _ = timed(learner, learner.evaluate, config.evaluated)
    return Cost(setup, seconds / images, evaluation / score.examples)


def seconds_of(config: Config, costs: Costs, epochs: float) -> float:
    """Expected seconds of the first `epochs` epochs."""
    train = (config.subset or SPECS[config.dataset].train_size) - config.validation
    evaluated = config.validation or (config.subset // 5 or SPECS[config.dataset].test_size)
    cost = costs[kind_of(config)]
    epoch = train * cost.train_image + evaluated * cost.evaluate_image + SECONDS_AN_EPOCH
    return SECONDS_A_TRAINING + cost.setup + train * cost.evaluate_image + epochs * epoch


def makespan(durations: Sequence[float], at_once: int) -> float:
    """Seconds until all are done, if each begins in this order as soon as a worker is free."""
    free = [0.0] * at_once
    for duration in durations:
        free[free.index(min(free))] += duration
    return max(free)


def duration(seconds: float) -> str:
    """A duration for people: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
