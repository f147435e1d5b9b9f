"""The launcher that carries out tasks in worker processes on this machine."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection, get_context, resource_tracker
from typing import cast

from eml.config import Config, ConfigError
from eml.launchers.base import Launcher, Result, Task
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
from eml.tracking import find
from eml.tracking.calls import StoreAwayError, StoreError
from eml.tracking.digests import training_digest
from eml.tracking.runs import close_run
from eml.training.loop import TrainingLoop
from eml.training.progress import ShowEpoch, epoch_line

SECONDS_TO_END = 30  # time limit for a worker to close its run


class Workers(Launcher):
    """Carries out tasks in `at_once` worker processes, which share the cores.

    Leaving the context sends SIGTERM to the workers: the run of an unfinished training ends KILLED.
    """

    def __init__(self, options: LaunchOptions | None = None, jobs: int = 1):
        super().__init__(options, jobs)
        self.workers: dict[int, _Worker] = {}  # by a number from 0 to at_once - 1

    def check(self, configs: Sequence[Config]) -> None:
        """Raise ConfigError if trainings would share a GPU."""
        if self.at_once > 1 and any(config.device_type == "cuda" for config in configs):
            raise ConfigError(
                f"jobs={self.at_once}: on a GPU one training follows the other; give jobs=1, or "
                "device=cpu"
            )

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in self.workers.values():
            worker.process.join(SECONDS_TO_END)
            worker.process.kill()

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        """Carry out all tasks and return their results. A dead worker does not stop the others."""
        names = [f"[{n}/{len(tasks)}] {t.config.run_name}" for n, t in enumerate(tasks, start=1)]
        waiting = list(range(len(tasks)))  # indices of tasks
        results: dict[int, Result] = {}
        busy: dict[int, int] = {}  # by the worker's number, the index of its task
        while len(results) < len(tasks):
            for number in range(self.at_once):
                if waiting and number not in busy:
                    busy[number] = index = waiting.pop(0)
                    with suppress(BrokenPipeError):  # result_of() reports the dead worker
                        self._worker(number).pipe.send((tasks[index], names[index]))
            pipes = {self.workers[number].pipe: number for number in busy}
            for pipe in connection.wait(list(pipes)):
                number = pipes[cast(connection.Connection, pipe)]
                index = busy.pop(number)
                results[index] = self.workers[number].result_of(tasks[index])
                if reason := results[index].reason:
                    print(f"{names[index]}: failed: {reason}", flush=True)
        return [results[index] for index in range(len(tasks))]

    def _worker(self, number: int) -> "_Worker":
        """The worker with this number, started if there is none, or if it died."""
        if number not in self.workers or not self.workers[number].process.is_alive():
            # Libraries then start no threads that would never be used.
            single = usable_cores() // self.at_once <= 1
            variables = dict.fromkeys(THREAD_VARIABLES, "1") if single else {}
            self.workers[number] = _Worker(variables)
        return self.workers[number]


class _Worker:
    """A worker process and the pipe to it. Lives in the launching process."""

    def __init__(self, variables: dict[str, str]):
        """variables: changes of the environment."""
        context = get_context("spawn")  # fork is unsafe in a process with threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), name="worker")
        # While a worker imports, Ctrl-C would print a traceback: _work() unblocks the signal.
        resource_tracker.ensure_running()  # which start() does otherwise, and unblocks it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        with environment(variables):
            self.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        theirs.close()  # otherwise recv() would not notice that the worker died

    def result_of(self, task: Task) -> Result:
        """Receive the result of a task; if the worker has died, mark the task's run FAILED."""
        try:
            result: Result = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            result = Result(f"its worker ended with exit code {code}")
            if code < 0:
                result = Result(f"its worker was ended by {signal.Signals(-code).name}")
            with suppress(StoreError):  # the other workers continue
                made = {} if task.probe else find.children(task.parent)
                if run := made.get(training_digest(task.config)):
                    close_run(run.run_id, "FAILED", "error", result.reason)
        return result


def _work(pipe: connection.Connection) -> None:
    """The main function of a worker process: carry out tasks until the pipe is closed."""
    raise_on_signals()
    stop_with_parent()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        while True:
            task, name = pipe.recv()
            try:
                result = perform(task, partial(_print_epochs, name))
            except StoreAwayError as error:
                result = Result(error.shown())
            pipe.send(result)
    except (EOFError, BrokenPipeError):
        pass
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


@contextmanager
def _print_epochs(name: str, training: TrainingLoop, where: str) -> Iterator[ShowEpoch]:
    print(f"{name}: {where}", flush=True)
    epochs = training.config.epochs
    yield lambda record: print(f"{name}: {epoch_line(record, epochs)}", flush=True)
