"""Trainings beside busy processes: with the threads that eml chooses, with one, and with all."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median

from benchmarks.images import dataset_of
from benchmarks.turns import Turns, Way
from eml.config import Config
from eml.machine import usable_cores
from eml.training.loop import TrainingLoop
from eml.training.threads import Asked

AUTO, ONE, ALL = "eml, threads=auto", "one thread", "all cores"
EPOCHS = 3
LATE_FROM = 5  # the first epoch that is measured where the busy processes begin in the third


def ways(config: Config, made_up: bool) -> dict[str, Way]:
    """An epoch with each number of threads."""
    numbers = {AUTO: 0, ONE: 1, ALL: usable_cores()}
    return {name: partial(epoch, config, made_up, number) for name, number in numbers.items()}


def late_ways(config: Config, made_up: bool) -> dict[str, Way]:
    """An epoch of a training that was alone until its third epoch."""
    return {name: partial(late, config, made_up, n) for name, n in {AUTO: 0, ONE: 1}.items()}


def epoch(config: Config, made_up: bool, threads: int, turns: Turns) -> None:
    """The median of the training seconds of some epochs, of a new training in each turn."""
    dataset = dataset_of(config, made_up)
    config = replace(config, epochs=EPOCHS)

    def measure() -> float:
        records = list(TrainingLoop(config, dataset, asked=Asked(threads)))
        return median(b.train_seconds - a.train_seconds for a, b in pairwise(records))

    turns.each(measure)


def late(config: Config, made_up: bool, threads: int, turns: Turns) -> None:
    """Four busy processes begin before the third epoch; measures those from LATE_FROM on."""
    dataset = dataset_of(config, made_up)
    config = replace(config, epochs=LATE_FROM + 2)

    def measure() -> float:
        seconds: list[float] = []
        training = iter(TrainingLoop(config, dataset, asked=Asked(threads)))
        for _ in range(3):  # epochs 0 to 2
            seconds.append(next(training).train_seconds)
        with busy(4):
            seconds += [record.train_seconds for record in training]
        return median(b - a for a, b in pairwise(seconds[LATE_FROM - 1 :]))

    turns.each(measure)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """`count` processes that compute all the time."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
