"""The `cancel` command: ends the jobs of a parent run."""

import click

from eml.errors import UserError


@click.command()
@click.argument("run_id")
def cancel(run_id: str) -> None:
    """End the jobs of the parent run RUN_ID, and the runs of their trainings."""
    from eml.launchers.base import launcher_class
    from eml.launchers.options import LAUNCHERS
    from eml.tracking import find
    from eml.tracking.reap import begin
    from eml.tracking.tags import CONTINUED_IN, PLAN_DIGEST

    begin(makes_run=False)
    parent = find.get(run_id)
    while CONTINUED_IN in parent.tags:  # a later `mlflow run` continues this run
        parent = find.get(parent.tags[CONTINUED_IN])
    if PLAN_DIGEST not in parent.tags:
        raise UserError(
            f"{parent.name} is not the parent run of a sweep: give the parent run"
            + (f", {parent.parent}" if parent.parent else "")
        )
    jobs = sum(launcher_class(name).cancel(parent) for name in LAUNCHERS)
    print(f"{parent.name}: jobs ended: {jobs}" if jobs else f"{parent.name}: no job is left")
