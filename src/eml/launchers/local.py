"""The launcher that carries out work items in worker processes on this machine."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import connection, get_context
from typing import Any, Self, cast

from eml.config import Config, ConfigError
from eml.launchers.base import Item, Launcher, Probe, Result, WorkItem
from eml.launchers.options import LaunchOptions
from eml.launchers.worker import perform
from eml.machine import (
    THREAD_VARIABLES,
    Stopped,
    environment,
    raise_on_signals,
    stop_with_parent,
    usable_cores,
)
from eml.tracking import end, runs
from eml.tracking.calls import StoreAwayError, StoreError
from eml.training.loop import EpochRecord, TrainingLoop
from eml.training.progress import epoch_line

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
SECONDS_TO_END = 30  # time limit for a worker to close its run


# From a worker: the id of the run in which its training has begun, an epoch, the item's result.
Message = str | EpochRecord | Result


class Workers(Launcher):
    """Carries out items in `count` worker processes that share the cores; each does one at a time.

    Leaving the context sends SIGTERM to the workers: the run of an unfinished training ends KILLED.
    """

    def __init__(self, count: int, share_gpu: bool = False):
        """share_gpu: whether several workers may use one GPU."""
        self.at_once, self.share_gpu = count, share_gpu
        self.gpus = 0  # number of GPUs to divide among the workers
        self.workers: list[_Worker] = []

    @classmethod
    def of(cls, options: LaunchOptions, jobs: int) -> Self:
        return cls(jobs, options.share_gpu)

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

    def run(self, tasks: Sequence[Item]) -> dict[Item, Result]:
        """Carry out all items and return their results. A dead worker does not stop the others."""
        waiting: list[WorkItem] = list(tasks)
        results: dict[Any, Result] = {}
        numbers: dict[WorkItem, int] = {item: n for n, item in enumerate(tasks, start=1)}
        while len(results) < len(tasks):
            self._hand_out(waiting)
            busy = {worker.pipe: worker for worker in self.workers if worker.item}
            for pipe in connection.wait(list(busy)):
                worker = busy[cast(connection.Connection, pipe)]
                item, message = worker.item, worker.receive()
                assert item is not None
                if isinstance(message, Result):
                    results[item] = message
                _print(f"{numbers[item]}/{len(tasks)}", item, message)
        return results

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Result]:
        return self.run(probes)

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
        # Libraries then start no threads that would never be used.
        changes = {} if usable_cores() // count > 1 else dict.fromkeys(THREAD_VARIABLES, "1")
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

    def receive(self) -> Message:
        """The next message; if the worker has died, mark its run FAILED and return Result."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            message = Result(_death(self.process.exitcode))
            if self.run_id:
                with suppress(StoreError):  # the other workers continue
                    end.fail(self.run_id, message.reason)
        if isinstance(message, str):
            self.run_id = message
        if isinstance(message, Result):
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
                result = perform(item, lambda training, _: _Reporter(training, pipe))
            except StoreAwayError as error:
                result = Result(error.shown())
            pipe.send(result)
    except (EOFError, BrokenPipeError):
        pass
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


class _Reporter:
    """A Progress that sends its messages to the launching process."""

    def __init__(self, training: TrainingLoop, pipe: connection.Connection):
        self.pipe = pipe

    def __enter__(self) -> "_Reporter":
        self.pipe.send(runs.active_run().info.run_id)
        return self

    def __exit__(self, *_):
        pass

    def show(self, record: EpochRecord) -> None:
        self.pipe.send(record)


def _print(number: str, item: WorkItem, message: Message) -> None:
    """Print a line about a message from the worker of an item."""
    if isinstance(message, str):
        text = f"run {message}"
    elif isinstance(message, EpochRecord):
        text = epoch_line(message, item.config.epochs)
    elif message.reason:
        text = f"failed: {message.reason}"
    else:
        return
    print(f"[{number}] {item.config.run_name}: {text}", flush=True)
