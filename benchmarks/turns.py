"""Ways of doing the same, each in a process of its own, measured in turn, again and again.

In turn, so that a machine that slows down does so for all; in processes of their own, so that one
way's threads and memory settings are not another's.
"""

import signal
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import NamedTuple


class Turns:
    """A way's end of the connection: it waits for a turn, and reports the seconds of the turn."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def wait(self) -> bool:
        """Return when it is this way's turn; False if there is none any more."""
        try:
            return bool(self._connection.recv())
        except EOFError:
            return False

    def report(self, seconds: float) -> None:
        self._connection.send(seconds)

    def each(self, measure: Callable[[], float]) -> None:
        """Report what `measure` returns, a turn after another."""
        while self.wait():
            self.report(measure())


Way = Callable[[Turns], None]  # what spawn can pickle: a function of a module, or a partial of one


def in_turn(ways: Mapping[str, Way], repeats: int) -> dict[str, list[float]]:
    """The seconds of each way, `repeats` of them, after one turn more to warm up."""
    context = get_context("spawn")
    running = {}
    # Ctrl-C is for this process alone, which then ends the others.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for name, way in ways.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(way, theirs))
        process.start()
        theirs.close()  # so that this process notices its end
        running[name] = process, ours
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for repeat in range(repeats + 1):
            for name, (_, connection) in running.items():
                connection.send(True)
                try:
                    taken = connection.recv()
                except EOFError:
                    raise SystemExit(f"{name} failed") from None
                if repeat:
                    seconds[name].append(taken)
    except BaseException:
        for process, _ in running.values():
            process.terminate()
        raise
    finally:
        for process, connection in running.values():
            connection.close()  # no turn comes any more
            process.join()
    return seconds


def _serve(way: Way, connection: Connection) -> None:
    way(Turns(connection))


class Ratio(NamedTuple):
    """One way's seconds to another's, turn by turn."""

    median: float
    lowest: float
    highest: float


def ratio(seconds: list[float], reference: list[float]) -> Ratio:
    """The ratio of two ways that were measured in turn."""
    ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
