"""The `reap` command: ends runs whose process died."""

import click


@click.command()
@click.argument("run_ids", metavar="[RUN_ID]...", nargs=-1)
def reap(run_ids: tuple[str, ...]) -> None:
    """End runs that are RUNNING in the store although their process died, and list the others.

    RUN_ID: end this run too, although this machine cannot tell whether its process lives, for
    example a run that `mlflow run` left behind without conda.
    """
    from eml.tracking.reap import reap

    reap(run_ids)
