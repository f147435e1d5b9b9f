"""Delivers the epochs of a training to its run, without ever making the training wait.

The checkpoint has each epoch before the run does, so an epoch that the store does not take is kept:
it goes with a later one, with its own time. MLflow stores equal points once, so delivering twice
changes nothing.
"""

import time

from eml.tracking.calls import StoreAwayError
from eml.tracking.log import Timed, log_records, logged_epochs, try_to_log_records
from eml.training.checkpoints import Checkpoint, directory
from eml.training.loop import EpochRecord

SHARE = 1 / 200  # of the training's time that may go into tries which fail


class Delivery:
    """The epochs of a training that its run does not hold yet."""

    def __init__(self, run_id: str, checkpoint: Checkpoint):
        """checkpoint: where the training continues. Asks the store which epochs the run holds."""
        self._held = logged_epochs(run_id)
        self._missing: list[Timed] = []
        self._next_try = 0.0  # in seconds of time.monotonic()
        self._away = False
        for record, timestamp in zip(checkpoint.records, checkpoint.timestamps, strict=True):
            self._add(record, timestamp)

    def offer(self, record: EpochRecord, timestamp: int) -> None:
        """Try once to log an epoch, and all that are missing, unless a try failed a moment ago.

        timestamp: end of the epoch, in milliseconds since 1970. Raises StoreError if the store
        refuses the epochs; prints a line if it does not answer.
        """
        self._add(record, timestamp)
        began = time.monotonic()
        if not self._missing or began < self._next_try:
            return
        try:
            try_to_log_records(self._missing)
        except StoreAwayError as error:
            now = time.monotonic()
            self._next_try = now + (now - began) / SHARE
            if not self._away:
                print(f"{error}: the training goes on, and its epochs are kept", flush=True)
            self._away = True
        else:
            if self._away:
                print(f"the store answers again: {len(self._missing)} epochs delivered", flush=True)
            self._away = False
            self._missing.clear()

    def complete(self) -> None:
        """Log all that is missing, and wait for the store. Raises StoreAwayError."""
        if self._missing:
            log_records(self._missing)
            self._missing.clear()

    def _add(self, record: EpochRecord, timestamp: int) -> None:
        if record.epoch not in self._held:
            self._missing.append((record, timestamp))


def kept(error: StoreAwayError, epoch: int) -> StoreAwayError:
    """The error of a store that stayed away, with what is kept and how it is delivered."""
    return StoreAwayError(
        f"{error}: the training is kept up to epoch {epoch} in {directory()}; the same command "
        "delivers it when the store answers"
    )
