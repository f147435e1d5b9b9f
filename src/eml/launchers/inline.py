"""The launcher that carries out work items in this process."""

from collections.abc import Sequence

from eml.launchers.base import Ended, Item, Launcher, Probe, Task
from eml.launchers.worker import perform


class Inline(Launcher):
    """Carries out one item after the other in this process."""

    in_this_run = True

    def run(self, tasks: Sequence[Task]) -> dict[Task, Ended]:
        return _perform_all(tasks)

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Ended]:
        return _perform_all(probes)


def _perform_all(items: Sequence[Item]) -> dict[Item, Ended]:
    ended = {}
    for number, item in enumerate(items, start=1):
        print(f"{number} of {len(items)}: {item.config.run_name}", flush=True)
        ended[item] = perform(item)
        if ended[item].reason:
            print(f"failed: {ended[item].reason}", flush=True)
    return ended
