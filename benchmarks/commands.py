"""Whole commands: how long they take to begin, what tracking costs, and what memory they take."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import mlflow

from benchmarks.stores import fill
from benchmarks.turns import Turns, Way
from eml.analysis.options import Selection
from eml.tracking.history import load_history

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (sys.executable, "-c")
EML = (sys.executable, "-m", "eml")
RUN, LOCAL = (sys.executable, "-m", "mlflow", "run"), ("--env-manager", "local")
MLFLOW_RUN = (
    *(*RUN, str(ROOT), *LOCAL),
    *("-e", "mlp_torch", "-P", "epochs=1", "-P", "subset=640", "-P", "resume=false"),
)

IMPORTS = "import mlflow, torch"
# Any optimizer of PyTorch imports torch._dynamo.
OPTIMIZER = "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)"
START = "eml mlp_torch, to the first batch"
# What a comparison cannot do without: the imports, the store, and figures with as many lines.
PLAIN = """
import io, sys
import mlflow, numpy, pandas
from matplotlib.figure import Figure
mlflow.MlflowClient().search_runs(["0"], max_results=1)
for _ in range(6):
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    for line in range(int(sys.argv[1])):
        axes.plot(numpy.arange(31), numpy.arange(31) * line, label=f"curve {line}")
    figure.legend(handles=axes.lines[:20], loc="outside lower left")
    for form in ("png", "svg"):
        figure.savefig(io.BytesIO(), format=form, dpi=150)
"""
HANDFUL, ALL = "eml compare, 8 of 1,000 runs", "eml compare, 1,000 runs as 200 curves"
PLAIN_HANDFUL, PLAIN_ALL = (f"imports, store, six plain figures of {n} lines" for n in (8, 200))


def starts(folder: Path) -> dict[str, Way]:
    """How long commands take, beside the imports that they cannot do without."""
    store = f"sqlite:///{folder}/mlflow.db"
    mlflow.MlflowClient(store).search_experiments()  # made once, before several processes open it
    run = partial(whole, folder=folder, store=store)
    begin = partial(to_first_batch, folder=folder, store=store)
    small = ("--epochs", "1", "--subset", "640", "--resume", "false")
    return {
        IMPORTS: partial(run, (*PYTHON, IMPORTS)),
        "import mlflow": partial(run, (*PYTHON, "import mlflow")),
        "import torch": partial(run, (*PYTHON, "import torch")),
        "import torch, make an optimizer": partial(run, (*PYTHON, OPTIMIZER)),
        "mlflow run, of nothing": partial(run, (*RUN, str(_nothing(folder)), *LOCAL)),
        "mlflow run, to the first batch": partial(begin, MLFLOW_RUN),
        START: partial(begin, (*EML, "mlp_torch", *small)),
        "eml mlp_numpy, to the first batch": partial(begin, (*EML, "mlp_numpy", *small)),
        "eml gradients": partial(run, (*EML, "gradients")),
        "eml compare": partial(run, (*EML, "compare", "--recipe", "mlp_torch")),
        "eml --help": partial(run, (*EML, "--help")),
    }


def _nothing(folder: Path) -> Path:
    """A project whose command does nothing."""
    project = folder / "nothing"
    project.mkdir()
    (project / "MLproject").write_text("name: nothing\nentry_points: {main: {command: ':'}}\n")
    return project


def whole(command: Sequence[str], turns: Turns, *, folder: Path, store: str) -> None:
    """From start to end."""

    def measure() -> float:
        start = perf_counter()
        call(command, folder, store)
        return perf_counter() - start

    turns.each(measure)


def to_first_batch(command: Sequence[str], turns: Turns, *, folder: Path, store: str) -> None:
    """From the start to the record of epoch 0, after which the first batch is trained."""
    client = mlflow.MlflowClient(store)

    def measure() -> float:
        started = time.time()
        call(command, folder, store)
        (run,) = client.search_runs(
            [e.experiment_id for e in client.search_experiments()],
            filter_string="metrics.final_test_accuracy >= 0",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        untrained, *_ = client.get_metric_history(run.info.run_id, "train_loss")
        assert untrained.step == 0
        return untrained.timestamp / 1000 - started

    turns.each(measure)


def call(command: Sequence[str], folder: Path, store: str) -> str:
    """Run a command in `folder` with that store; what it printed."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": store,
        "EML_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def peak_memory(command: Sequence[str], folder: Path) -> float:
    """The most memory that a command has taken, in 10^9 bytes."""
    # A process of its own, because the peak of children is that of all so far.
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True,"
        " stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    printed = call((*PYTHON, program, *command), folder, f"sqlite:///{folder}/memory.db")
    return int(printed) * 1024 / 1e9


def shares(recipe: str, folder: Path) -> tuple[float, float]:
    """Of the wall-clock time of 30 epochs, what is neither training nor evaluation nor set-up.

    First as a share; then the seconds of the whole command.
    """
    store = f"sqlite:///{folder}/{recipe}.db"
    start = perf_counter()
    call((*EML, recipe, "--resume", "false"), folder, store)
    seconds = perf_counter() - start
    mlflow.set_tracking_uri(store)
    history, _ = load_history(Selection(recipe=recipe))
    last, setup = history.iloc[-1], history["setup_seconds"].max()
    rest = last["wall_seconds"] - last["train_seconds"] - last["eval_seconds"] - setup
    return rest / last["wall_seconds"], seconds


def comparisons(counts: Sequence[int], folder: Path) -> dict[str, Way]:
    """Reading all of a store's runs, by their number, and comparing some and all of 1,000."""
    found: dict[str, Way] = {}
    for count in counts:
        store = f"sqlite:///{folder}/runs_{count}.db"
        fill(store, count, artifacts=str(folder))
        found[f"read {count:,} runs"] = partial(read_all, store)
        if count == 1000:
            one_rate = "params.learning_rate = '0.001' and params.seed = '0'"
            run = partial(whole, folder=folder, store=store)
            found[PLAIN_HANDFUL] = partial(run, (*PYTHON, PLAIN, "8"))
            found[HANDFUL] = partial(run, (*EML, "compare", "--filter", one_rate))
            found[PLAIN_ALL] = partial(run, (*PYTHON, PLAIN, "200"))
            found[ALL] = partial(run, (*EML, "compare", "--recipe", "cifar_cnn"))
    return found


def read_all(store: str, turns: Turns) -> None:
    """All runs of a store as one history, in this process, without imports."""
    mlflow.set_tracking_uri(store)

    def measure() -> float:
        start = perf_counter()
        load_history(Selection(experiment="Default"))
        return perf_counter() - start

    turns.each(measure)
