"""The number of threads that a training on the CPU computes with.

Several threads are up to twice as fast as one on an idle machine, and several times slower beside
other processes: at the end of each small product they wait for a thread that has no core.
"""

import math
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

from eml.config import Config
from eml.machine import DISTURBED, threads_in_environment, usable_cores
from eml.models.learner import Learner

TURNS = 4  # of a measurement
TURN_SECONDS = 0.1
SLOW = 1.25  # an epoch this many times as long as with one thread: one is faster


class Asked(NamedTuple):
    """How many threads a training is to compute with."""

    number: int = 0  # 0: that of the environment; else the faster of one and all cores
    at_once: int = 1  # number of trainings that share the cores
    stay: bool = False  # whether the number stays, because seconds are compared


CHOOSE = Asked()


class Threads:
    """Chooses the number of threads of a training, and chooses again when an epoch is slow."""

    def __init__(self, learner: Learner, config: Config, asked: Asked, before: int | None = None):
        """before: the number that an interrupted training goes on with, if there are the cores."""
        self.learner, self.config = learner, config
        chosen = asked.number or threads_in_environment()
        self.stays = asked.stay or chosen > 0
        most = max(1, usable_cores() // asked.at_once)
        self.number = chosen or min(before or most, most)
        self.slowdown: float | None = None  # of the last epoch, see after_epoch()
        self.remark = ""  # what the user should know after the last epoch
        self._warned = False
        self._one = self._alone = math.inf  # seconds an image: with one thread, on an idle machine
        # Trainings at once, whose seconds are compared, cannot wait for the first to choose.
        fixed = chosen or before or (asked.stay and asked.at_once > 1)
        if config.device_type == "cpu" and self.number > 1 and self._one_is_faster() and not fixed:
            self.number = 1
        learner.use_threads(self.number)

    def after_epoch(self, epoch: int, images: int, seconds: float, cpu_seconds: float) -> None:
        """Judge an epoch: set `slowdown` and `remark`, and go on with one thread if it is faster.

        slowdown: `seconds` of the epoch over those that it takes on an idle machine; on a GPU None.
        """
        if self.config.device_type != "cpu":
            return
        alone = cpu_seconds if self.number == 1 else self._alone * images
        self.slowdown, self.remark, remedy = seconds / alone if alone else None, "", ""
        if self.number > 1 and seconds > SLOW * self._one * images:
            remedy = "; threads=1 is probably faster"
            if not self.stays:
                self._one_is_faster()  # one thread is slower, too, where the processor itself is
                if seconds > SLOW * self._one * images:
                    self.number, remedy = 1, "; one thread from now on"
                self.learner.use_threads(self.number)
        changed = remedy and self.number == 1
        if changed or (self.slowdown and self.slowdown >= DISTURBED and not self._warned):
            self._warned = True
            self.remark = (
                f"something else has the processor: epoch {epoch} took {self.slowdown:.1f} times "
                f"as long as on an idle machine{remedy}"
            )

    def _one_is_faster(self) -> bool:
        """Time steps with one thread and with `number` in turn, in seconds an image."""
        # Copies, because the learner may return its own arrays.
        state = {name: value.copy() for name, value in self.learner.training_state().items()}
        turns = [(*self._turn(1), *self._turn(self.number)) for _ in range(TURNS)]
        self.learner.load_training_state(state)
        one, cpu, several, _ = zip(*turns, strict=True)
        self._one = median(one)
        # The CPU time of one thread hardly depends on what else the machine does.
        self._alone = min(self._alone, median(several), median(cpu))
        # The best of some turns: a wrong "several" shows after an epoch, a wrong "one" never.
        return bool(min(one) < min(several))

    def _turn(self, number: int) -> tuple[float, float]:
        """The seconds and the CPU seconds of an image with this number of threads."""
        self.learner.use_threads(number)
        self.learner.practise()  # starts the threads
        cpu_start, start = process_time(), perf_counter()
        images, seconds = 0, 0.0
        while seconds < TURN_SECONDS:
            self.learner.practise()
            images += self.config.batch_size
            seconds = perf_counter() - start
        return seconds / images, (process_time() - cpu_start) / images
