"""Reading many runs back from a store, against a client call for each run and metric.

    python -m benchmarks.history              about 4 minutes on two CPU cores

Makes a SQLite store of runs with 30 epochs and 8 metrics in a temporary folder, and reads it
directly and through an `mlflow server` on loopback. Of the calls one by one a tenth is measured.
"""

import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from time import perf_counter, sleep

import click
import mlflow
import numpy as np
import requests
from mlflow.entities import Metric, Param, RunTag

from eml.history import METRICS, Selection, load_history
from eml.readers import ClientReader

EPOCHS = 30
LOGGED = [metric for metric in METRICS if metric != "setup_seconds"]  # once a run
PARAMETERS = {f"parameter_{number}": str(number) for number in range(16)} | {
    "learning_rate": "0.1",
    "train_images": "50000",
}


def make_store(uri: str, runs: int) -> None:
    """A store of `runs` finished runs of one recipe."""
    client = mlflow.MlflowClient(uri)
    rng = np.random.default_rng(0)
    for _ in range(runs):
        run_id = client.create_run("0").info.run_id
        values = rng.random((EPOCHS, len(LOGGED)))
        client.log_batch(
            run_id,
            [
                Metric(metric, float(values[epoch, column]), 1000 + epoch, epoch)
                for epoch in range(EPOCHS)
                for column, metric in enumerate(LOGGED)
            ],
            [Param(*item) for item in PARAMETERS.items()],
            [RunTag("recipe", "cifar_cnn"), *(RunTag(f"tag_{n}", "x" * 20) for n in range(12))],
        )
        client.set_terminated(run_id)


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
        assert len(history) == runs * EPOCHS

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
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        uri = f"sqlite:///{folder}/mlflow.db"
        make_store(uri, runs)
        click.echo(f"{runs} runs, {EPOCHS} epochs, {len(LOGGED)} metrics, {repeats} times in turn")
        measure("database", uri, runs, repeats)
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        command = [sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", "1"]
        with subprocess.Popen(
            [*command, "--backend-store-uri", uri, "--artifacts-destination", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                address = f"http://127.0.0.1:{port}"
                wait_for(address)
                measure("server", address, runs, repeats)
            finally:
                server.terminate()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"peak memory {peak:.0f} MiB, most of it mlflow itself")


def wait_for(address: str) -> None:
    for _ in range(300):
        try:
            requests.get(f"{address}/health", timeout=5).raise_for_status()
            return
        except requests.RequestException:
            sleep(0.2)
    raise SystemExit(f"no server at {address}")


if __name__ == "__main__":
    main()
