"""Shows the progress of a training: a live line on a terminal, and a line per epoch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from eml.training.loop import EpochRecord, TrainingLoop

ShowEpoch = Callable[[EpochRecord], None]
# Makes the display of a training, which shows each ended epoch. The text locates the run.
MakeDisplay = Callable[[TrainingLoop, str], AbstractContextManager[ShowEpoch]]


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """A line about an ended epoch, of `epochs` in all."""
    scores = (
        f"train loss {record.train_loss:.4f} accuracy {record.train_accuracy:6.2%}"
        f"  {record.evaluated} loss {record.loss:.4f} accuracy {record.accuracy:6.2%}"
    )
    return (
        f"epoch {record.epoch:{len(str(epochs))}}/{epochs}"
        f"  {'the loss is not finite: diverged' if record.diverged else scores}"
        f"  {record.train_seconds:.1f} s trained"
        + (f"  {record.images_per_second:,.0f} images/s" if record.epoch else "")
    )


@contextmanager
def display(training: TrainingLoop, where: str) -> Iterator[ShowEpoch]:
    """Print lines about a training, its beginning and each ended epoch.

    On a terminal a live line shows the epoch under way.
    """
    config, threads = training.config, training.threads.number
    print(f"{config.run_name}: {where}")
    if training.last:
        print(f"goes on after epoch {training.last.epoch}")
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    print(f"{config.device_type}: {training.learner.hardware}, {counted}", flush=True)
    console, line = Console(highlight=False), _live_line(training)
    live = Live(console=console, get_renderable=line, refresh_per_second=2, transient=True)
    with live if console.is_terminal else nullcontext():
        yield lambda record: console.print(epoch_line(record, config.epochs), soft_wrap=True)


def _live_line(training: TrainingLoop) -> Callable[[], Progress]:
    """A function that returns the live line; a thread of rich calls it."""
    epochs, images = training.config.epochs, training.images["train"]
    bar = Progress(
        "{task.description}",
        BarColumn(20),
        "{task.fields[score]}  left:",
        TimeRemainingColumn(),
        speed_estimate_period=600,
    )
    task = bar.add_task("", total=epochs * images, completed=training.epoch * images, score="")

    def update() -> Progress:
        score = training.learner.running_score()
        left = 0 if training.evaluating else images - score.examples
        text = f"loss {score.loss:.4f} accuracy {score.accuracy:.1%}"
        bar.update(
            task,
            completed=training.epoch * images - left,
            description=f"epoch {training.epoch}/{epochs}",
            score="evaluating" if training.evaluating else text,
        )
        return bar

    return update
