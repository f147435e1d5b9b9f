"""Reading many runs back from a store, against a client call for each run and metric.

    python -m benchmarks.history              about 4 minutes on two CPU cores

Makes a SQLite store of runs with 30 epochs and 8 metrics in a temporary folder, and reads it
directly and through an `mlflow server` on loopback. Of the calls one by one a tenth is measured.
"""

import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import click
import mlflow

from benchmarks.stores import EPOCHS, LOGGED, fill
from eml.tracking.history import load_history
from eml.tracking.readers import ClientReader
from eml.tracking.selection import Selection
from tests.servers import mlflow_server


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def measure(name: str, uri: str, runs: int, repeats: int) -> None:
    """Print medians of both ways, taken in turn, and their ratio."""
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    some = [run.info.run_id for run in client.search_runs(["0"], max_results=runs // 10)]

    def at_once() -> None:
        history, _ = load_history(Selection(experiment="Default"))
        assert len(history) == runs * (EPOCHS + 1)

    ours, single = [], []
    for _ in range(repeats):
        ours.append(seconds(at_once))
        single.append(10 * seconds(lambda: ClientReader(client).points(some, LOGGED)))
    ratio = median(b / a for a, b in zip(ours, single, strict=True))
    click.echo(
        f"{name:8} load_history {median(ours):6.2f} s   calls one by one {median(single):6.1f} s"
        f"   {ratio:.0f} x"
    )


@click.command()
@click.option("--runs", default=1000, show_default=True)
@click.option("--repeats", default=3, show_default=True, help="times that each is measured")
def main(runs: int, repeats: int):
    """Print how long it takes to read a store both ways."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        fill(uri, runs)
        click.echo(f"{runs} runs, {EPOCHS} epochs, {len(LOGGED)} metrics, {repeats} times in turn")
        measure("database", uri, runs, repeats)
        with mlflow_server(uri, Path(folder)) as address:
            measure("server", address, runs, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"peak memory {peak:.0f} MiB, most of it mlflow itself")


if __name__ == "__main__":
    main()
