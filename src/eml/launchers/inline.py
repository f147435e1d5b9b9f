"""The launcher that works in this process."""

from collections.abc import Sequence

from eml.launchers.base import Ended, Job
from eml.launchers.worker import perform


class Inline:
    """The launcher that does one job after the other in this process."""

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_) -> None:
        pass

    def run(self, jobs: Sequence[Job]) -> dict[Job, Ended]:
        ended = {}
        for number, job in enumerate(jobs, start=1):
            print(f"{number} of {len(jobs)}: {job.config.run_name}", flush=True)
            ended[job] = perform(job)
            if ended[job].reason:
                print(f"failed: {ended[job].reason}", flush=True)
        return ended
