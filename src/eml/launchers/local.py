"""The launcher that carries out work items in worker processes on this machine."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table

from eml.config import Config, ConfigError
from eml.environment import environment
from eml.interrupts import Stopped, raise_on_signals, stop_with_parent
from eml.launchers.base import Ended, Item, Launcher, Probe, Task, WorkItem
from eml.launchers.worker import perform
from eml.threads import VARIABLES, usable_cores
from eml.tracking import end, runs
from eml.tracking.calls import StoreAwayError, StoreError
from eml.training.loop import EpochRecord, Training
from eml.training.progress import epoch_line

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
SECONDS_TO_END = 30  # time limit for a worker to close its run


@dataclass(frozen=True)
class Begun:
    """Message from a worker: its training has begun in this run."""

    run_id: str


class Workers(Launcher):
    """Carries out items in `count` worker processes that share the cores; each does one at a time.

    Leaving the context sends SIGTERM to the workers: the run of an unfinished training ends KILLED.
    """

    def __init__(self, count: int, share_gpu: bool = False):
        """share_gpu: whether several workers may use one GPU."""
        self.at_once, self.share_gpu = count, share_gpu
        self.gpus = 0  # number of GPUs to divide among the workers
        self.workers: list[_Worker] = []

    def check(self, configs: Sequence[Config]) -> None:
        """Count the GPUs. Raises ConfigError if trainings would share one without share_gpu."""
        if not any(config.device_type == "cuda" for config in configs):
            return
        import torch

        self.gpus = torch.cuda.device_count()
        if self.at_once > self.gpus and not self.share_gpu:
            raise ConfigError(
                f"jobs={self.at_once}: there are {self.gpus} GPUs; give at most as many "
                "jobs, or share_gpu=true"
            )

    def __exit__(self, *_):
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(SECONDS_TO_END)
            worker.process.kill()

    def run(self, tasks: Sequence[Task]) -> dict[Task, Ended]:
        """Carry out all tasks and return how each ended. A dead worker does not stop the others."""
        return self._perform_all(tasks)

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Ended]:
        return self._perform_all(probes)

    def _perform_all(self, items: Sequence[Item]) -> dict[Item, Ended]:
        waiting: list[WorkItem] = list(items)
        ended: dict[Any, Ended] = {}
        with _Board(items) as board:
            while len(ended) < len(items):
                self._hand_out(waiting)
                busy = {worker.pipe: worker for worker in self.workers if worker.item}
                for pipe in connection.wait(list(busy)):
                    worker = busy[cast(connection.Connection, pipe)]
                    item, message = worker.item, worker.receive()
                    assert item is not None
                    if isinstance(message, Ended):
                        ended[item] = message
                    board.show(item, message)
                self.workers = [worker for worker in self.workers if not worker.dead]
        return ended

    def _hand_out(self, waiting: list[WorkItem]) -> None:
        self.workers = [w for w in self.workers if w.item or w.process.is_alive()]
        numbers = {worker.number for worker in self.workers}
        while len(self.workers) < min(self.at_once, len(waiting) + len(self.workers)):
            number = next(n for n in range(self.at_once) if n not in numbers)
            numbers.add(number)
            self.workers.append(_Worker(number, self.at_once, self.gpus))
        for worker in self.workers:
            if waiting and worker.item is None:
                worker.send(waiting.pop(0))


class _Worker:
    """A worker process with its pipe and its current item. Lives in the launching process."""

    def __init__(self, number: int, count: int, gpus: int):
        self.number = number
        self.item: WorkItem | None = None
        self.run_id = ""
        self.dead = False
        # Libraries then start no threads that would never be used.
        changes = {} if usable_cores() // count > 1 else dict.fromkeys(VARIABLES, "1")
        if gpus:
            visible = os.environ.get(VISIBLE_GPUS) or ",".join(map(str, range(gpus)))
            changes[VISIBLE_GPUS] = visible.split(",")[number % gpus]
        context = get_context("spawn")  # fork is unsafe in a process with threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), name=f"worker {number}")
        with environment(changes):
            self.process.start()
        theirs.close()  # otherwise recv() would not notice that the worker died

    def send(self, item: WorkItem) -> None:
        self.item, self.run_id = item, ""
        with suppress(BrokenPipeError):  # receive() reports the dead worker
            self.pipe.send(item)

    def receive(self) -> Begun | EpochRecord | Ended:
        """The next message; if the worker has died, mark its run FAILED and return Ended."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            message = Ended(_death(self.process.exitcode))
            self.dead = True
            if self.run_id:
                with suppress(StoreError):  # the other workers continue
                    end.fail(self.run_id, message.reason)
        if isinstance(message, Begun):
            self.run_id = message.run_id
        if isinstance(message, Ended):
            self.item = None
        return message


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"its worker was ended by {signal.Signals(-exit_code).name}"
    return f"its worker ended with exit code {exit_code}"


def _work(pipe: connection.Connection) -> None:
    """The main function of a worker process: carry out items until the pipe is closed."""
    raise_on_signals()
    stop_with_parent()
    try:
        while True:
            item = pipe.recv()
            try:
                ended = perform(item, lambda training, _: _Reporter(training, pipe))
            except StoreAwayError as error:
                ended = Ended(error.shown())
            pipe.send(ended)
    except (EOFError, BrokenPipeError):
        pass
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


class _Reporter:
    """A Progress that sends its messages to the launching process."""

    def __init__(self, training: Training, pipe: connection.Connection):
        self.pipe = pipe

    def __enter__(self) -> "_Reporter":
        self.pipe.send(Begun(runs.active_run().info.run_id))
        return self

    def __exit__(self, *_):
        pass

    def show(self, record: EpochRecord) -> None:
        self.pipe.send(record)


class _Board:
    """Shows the progress of all items: one live line per item on a terminal, else one per epoch."""

    def __init__(self, items: Sequence[WorkItem]):
        self.numbers = {item: number for number, item in enumerate(items, start=1)}
        self.running: dict[WorkItem, str] = {}
        self.ended = 0
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, get_renderable=self._table, transient=True)

    def __enter__(self) -> "_Board":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_):
        self.live.stop()

    def show(self, item: WorkItem, message: Begun | EpochRecord | Ended) -> None:
        if isinstance(message, Begun):
            self.running[item] = f"run {message.run_id}"
            self._print(item, self.running[item])
        elif isinstance(message, EpochRecord):
            self.running[item] = epoch_line(message, item.config.epochs)
            if not self.console.is_terminal:
                self._print(item, self.running[item])
        else:
            self.ended += 1
            last = self.running.pop(item, "")
            if message.reason:
                self._print(item, f"failed: {message.reason}")
            elif last and self.console.is_terminal:
                self._print(item, last)

    def _print(self, item: WorkItem, text: str) -> None:
        number = f"[{self.numbers[item]}/{len(self.numbers)}]"
        self.console.print(f"{number} {item.config.run_name}: {text}", soft_wrap=True, markup=False)
        self.console.file.flush()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for _ in range(2):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for item, text in self.running.items():
            table.add_row(item.config.run_name, text)
        waiting = len(self.numbers) - self.ended - len(self.running)
        table.add_row(f"{self.ended} done, {len(self.running)} running, {waiting} waiting", "")
        return table
