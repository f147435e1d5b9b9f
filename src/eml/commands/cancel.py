"""The `cancel` command: ends the jobs of a parent run."""

from eml.errors import UserError
from eml.launchers.base import launcher_class
from eml.launchers.options import LAUNCHERS
from eml.tracking import find
from eml.tracking.reap import begin
from eml.tracking.tags import CONTINUED_IN, PLAN_DIGEST


def cancel(run_id: str) -> None:
    """End the jobs of a parent run, and the runs of their trainings.

    Raises UserError if the run is not a parent.
    """
    begin()
    parent = find.get(run_id)
    seen = set()
    while CONTINUED_IN in parent.tags:  # a later `mlflow run` continues this run
        if parent.run_id in seen:
            raise UserError(f"{parent.name} is continued in itself: its tags were edited")
        seen.add(parent.run_id)
        parent = find.get(parent.tags[CONTINUED_IN])
    if PLAN_DIGEST not in parent.tags:
        raise UserError(
            f"{parent.name} is not the parent run of a sweep: give the parent run"
            + (f", {parent.parent}" if parent.parent else "")
        )
    jobs = sum(launcher_class(name).cancel(parent) for name in LAUNCHERS)
    print(f"{parent.name}: {jobs} jobs ended" if jobs else f"{parent.name}: no job is left")
