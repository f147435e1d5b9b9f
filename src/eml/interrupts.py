"""Turns signals into an exception, so that a stopped training ends its run properly."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REQUEUE = signal.SIGUSR2  # tells a cluster's job to stop and be requeued; submitit's choice
SHELLS = {"bash", "sh", "dash", "zsh", "ksh", "fish", "cmd.exe"}
POLL_SECONDS = 0.5


class Stopped(BaseException):
    """A signal arrived. Not an Exception, so that only the end of a run handles it."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class Deferred(Stopped):
    """Raised instead of Stopped when the work continues elsewhere: the run ends SCHEDULED."""


def raise_on_signals(in_job: bool = False) -> None:
    """Make the first of SIGNALS raise Stopped in the main thread; SIGHUP not under `nohup`.

    Later signals are ignored: `mlflow run` answers Ctrl-C with a SIGTERM to its child, which would
    otherwise interrupt the closing of the run.

    in_job: whether the signal REQUEUE raises Deferred, as a job of a cluster needs it.
    """

    def stop(number, _frame):
        for other in handled:
            signal.signal(other, signal.SIG_IGN)
        raise Deferred(number) if number == REQUEUE else Stopped(number)

    handled = (*SIGNALS, REQUEUE) if in_job else SIGNALS
    for number in handled:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back until the end of this context. Also a decorator.

    For work that must not stop half done: an exception in the middle of a write to SQLite keeps the
    lock as long as the traceback lives, and then the run cannot be closed.
    """
    came = []
    former = {number: signal.getsignal(number) for number in (*SIGNALS, REQUEUE)}
    for number in former:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def stop_with_parent() -> None:
    """Send SIGTERM to this process when the process that started it has died.

    For a child of `mlflow run`, which passes no signal on when it is killed. Shells in between are
    skipped, because they wait for this process.
    """
    owner = next((p for p in psutil.Process().parents() if p.name() not in SHELLS), None)
    if owner is None:
        return

    def watch():
        while _alive(owner):
            pause.wait(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    pause = threading.Event()  # never set; only its wait() is used
    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
