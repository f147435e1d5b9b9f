"""The launcher that carries out one item after the other in this process."""

from collections.abc import Sequence

from eml.launchers.base import Ended, Launcher, WorkItem
from eml.launchers.worker import perform


class Inline(Launcher):
    """One item after the other, in this process."""

    in_this_run = True

    def run(self, items: Sequence[WorkItem]) -> dict[WorkItem, Ended]:
        ended = {}
        for number, item in enumerate(items, start=1):
            print(f"{number} of {len(items)}: {item.config.run_name}", flush=True)
            ended[item] = perform(item)
            if ended[item].reason:
                print(f"failed: {ended[item].reason}", flush=True)
        return ended
