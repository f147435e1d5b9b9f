"""Shows the progress of a training: a live line on a terminal, and a line per epoch."""

from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from eml.training.loop import EpochRecord, TrainingLoop

REFRESHES_PER_SECOND = 2


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """A line about an ended epoch, of `epochs` in all."""
    line = f"epoch {record.epoch:{len(str(epochs))}}/{epochs}"
    if record.diverged:
        line += "  the loss is not finite: diverged"
    else:
        line += (
            f"  train loss {record.train_loss:.4f} accuracy {record.train_accuracy:6.2%}"
            f"  {record.evaluated} loss {record.loss:.4f} accuracy {record.accuracy:6.2%}"
        )
    line += f"  {record.train_seconds:.1f} s trained"
    if record.epoch:
        line += f"  {record.images_per_second:,.0f} images/s"
    return line


class Progress(Protocol):
    """A context manager that shows each epoch of a training."""

    def __enter__(self) -> "Progress": ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, record: EpochRecord) -> None:
        """Show an ended epoch."""


class Display:
    """Shows a TrainingLoop from outside; the loop does not know about it.

    On a terminal a thread of rich reads the learner's running score twice a second. Elsewhere each
    epoch prints a plain line.
    """

    def __init__(self, training: TrainingLoop, where: str):
        self.training = training
        self.where = where
        self.console = Console(highlight=False)
        self.live = Live(
            console=self.console,
            get_renderable=self._now,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )
        self.epoch_started = perf_counter()
        self.seconds_per_epoch: float | None = None

    def __enter__(self) -> "Display":
        config, threads = self.training.config, self.training.threads.number
        print(f"{config.run_name}: {self.where}")
        if self.training.last:
            print(f"goes on after epoch {self.training.last.epoch}")
        hardware = self.training.learner.hardware["hardware"]
        counted = f"{threads} thread{'s' if threads > 1 else ''}"
        print(f"{config.device_type}: {hardware}, {counted}", flush=True)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_):
        self.live.stop()
        del self.live  # breaks a reference cycle that would keep all images in memory

    def show(self, record: EpochRecord) -> None:
        """Print a line about an ended epoch."""
        now = perf_counter()
        if record.epoch:
            self.seconds_per_epoch = now - self.epoch_started
        self.epoch_started = now
        line = epoch_line(record, self.training.config.epochs)
        self.console.print(line, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.file.flush()  # so that `tail -f` of a log is up to date

    def _now(self) -> Text:
        training = self.training
        config, images = training.config, training.images["train"]
        score = training.learner.running_score()
        if training.evaluating or not score.examples:
            return Text("evaluating ...")
        elapsed = max(perf_counter() - self.epoch_started, 1e-9)
        rate = score.examples / elapsed
        epoch_left = max(images - score.examples, 0) / rate
        per_epoch = self.seconds_per_epoch or images / rate
        run_left = epoch_left + (config.epochs - training.epoch) * per_epoch
        batches = -(-images // config.batch_size)
        done = -(-score.examples // config.batch_size)
        filled = min(20, 20 * score.examples // images)
        return Text(
            f"epoch {training.epoch}/{config.epochs} "
            f"{'━' * filled}{'─' * (20 - filled)} {min(done, batches)}/{batches} batches"
            f"  loss {score.loss:.4f} accuracy {score.accuracy:.1%}  {rate:,.0f} images/s"
            f"  left: epoch {_clock(epoch_left)}, run {_clock(run_left)}",
            no_wrap=True,
            overflow="ellipsis",
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
