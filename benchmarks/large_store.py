"""How long `eml plan` and `eml compare` take on a large shared store: PostgreSQL behind a server.

    python -m benchmarks.large_store          about 3 minutes on two CPU cores

Both are whole commands, imports and figures included, on a store of 100 runs and on one of 10,000,
in turn. `plan` is told that trainings run on a cluster that is not here: it asks the store alone.
"""

import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter

import click

from benchmarks.stores import fill
from tests.servers import mlflow_server, postgres

COMMANDS = {
    "plan lr_sweep": ["plan", "lr_sweep", "--launcher", "slurm"],
    "plan optimizers": ["plan", "optimizers", "--launcher", "slurm", "--device", "cpu"],
    "compare --filter": [
        "compare",
        "--filter",
        "params.optimizer = 'adam' and params.learning_rate = '0.003'",
    ],
}
IMPORTS = "import mlflow, pandas, matplotlib.pyplot"


@click.command()
@click.option("--runs", default=10_000, show_default=True)
@click.option("--repeats", default=3, show_default=True, help="times that each is measured")
def main(runs: int, repeats: int):
    """Print how long each command takes, and the most memory that it has taken."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgres())
        addresses = {}
        for count in (100, runs):
            uri = database.replace("/postgres", f"/runs_{count}")
            create(database, f"runs_{count}")
            start = perf_counter()
            fill(uri, count)
            click.echo(f"{count:,} runs written in {perf_counter() - start:.0f} s")
            addresses[count] = stack.enter_context(mlflow_server(uri, folder / str(count)))
        imports = median(seconds([sys.executable, "-c", IMPORTS], "", folder) for _ in range(3))
        click.echo(f"imports alone ({IMPORTS}): {imports:.1f} s")
        for name, arguments in COMMANDS.items():
            taken = {count: [] for count in addresses}
            for _ in range(repeats):
                for count, address in addresses.items():
                    command = [sys.executable, "-m", "eml", *arguments]
                    taken[count].append(seconds(command, address, folder))
            small, large = (median(taken[count]) for count in addresses)
            click.echo(
                f"{name:18} 100 runs {small:5.1f} s   {runs:,} runs {large:5.1f} s "
                f"({min(taken[runs]):.1f} to {max(taken[runs]):.1f})"
            )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    click.echo(f"peak memory of any process, the servers included: {peak:.0f} MiB")


def create(database: str, name: str) -> None:
    """A database of that name."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()


def seconds(command: list[str], address: str, folder: Path) -> float:
    """How long a command takes, without Slurm's programs."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": address,
        "EML_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "PATH": str(folder),
    }
    start = perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return perf_counter() - start


if __name__ == "__main__":
    main()
