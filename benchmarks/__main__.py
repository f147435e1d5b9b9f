"""Everything that eml promises of its speed, measured beside the other ways of doing the same.

    python -m benchmarks                      about 20 minutes on two CPU cores
    python -m benchmarks --only cnn           one part of it

Writes results.md, results.csv, targets.csv and results.png. OMP_NUM_THREADS and
OPENBLAS_NUM_THREADS set to 1 measure one core, as jobs on a cluster have it.
"""

import datetime
import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch

from benchmarks import training
from benchmarks.table import Row, Target, rows, text, write
from benchmarks.turns import in_turn, ratio
from eml.config import Config
from eml.hardware import cpu_name
from eml.recipes import cifar_cnn, mlp_numpy, mlp_torch

CNN_IMAGES = 12_800  # 200 batches: an epoch of 50,000 takes longer than a machine stays the same
Measured = tuple[list[Row], list[Target]]


def numpy_mlp(repeats: int, made_up: bool) -> Measured:
    """An epoch of mlp_numpy on all of MNIST."""
    (config,) = mlp_numpy.configs(mlp_numpy.Options())
    seconds = in_turn(training.ways(config, made_up), repeats)
    targets = [
        _target("NumPy MLP: the course's way / eml", seconds, training.COURSE, 12),
        _target("NumPy MLP: matrix products / eml", seconds, training.PRODUCTS, 0.75),
        *_loop("NumPy MLP", seconds),
    ]
    return rows("NumPy MLP, an epoch of MNIST", seconds, training.OURS), targets


def torch_mlp(repeats: int, made_up: bool) -> Measured:
    """An epoch of mlp_torch on all of MNIST."""
    (config,) = mlp_torch.configs(mlp_torch.Options())
    return _torch("PyTorch MLP", "an epoch of MNIST", config, repeats, made_up, 7)


def cnn(repeats: int, made_up: bool) -> Measured:
    """A quarter of an epoch of cifar_cnn."""
    (config,) = cifar_cnn.configs(cifar_cnn.Options(subset=CNN_IMAGES))
    what = f"{CNN_IMAGES:,} images of CIFAR-10"
    return _torch("CNN", what, config, repeats, made_up, 1.4)


def _torch(
    name: str,
    what: str,
    config: Config,
    repeats: int,
    made_up: bool,
    wanted: float,
) -> Measured:
    """On the CPU, and where there is a GPU on that, too."""
    seconds = in_turn(training.ways(config, made_up), repeats)
    targets = [_target(f"{name}: the course's way / eml", seconds, training.COURSE, wanted)]
    table = rows(f"{name}, {what}", seconds, training.OURS)
    targets += _loop(name, seconds)
    if torch.cuda.is_available():
        config = replace(config, device_type="cuda")
        seconds = in_turn(training.ways(config, made_up), repeats)
        table += rows(f"{name} on the GPU, {what}", seconds, training.OURS)
        name = f"{name} on the GPU"
        ratio_to_kernels = ratio(seconds[training.OURS], seconds[training.KERNELS])
        targets += [
            _target(f"{name}: the course's way / eml", seconds, training.COURSE, 30),
            Target(f"{name}: eml / its kernels", ratio_to_kernels, 1.5, False),
        ]
    return table, targets


def _target(what: str, seconds: dict[str, list[float]], way: str, bound: float) -> Target:
    return Target(what, ratio(seconds[way], seconds[training.OURS]), bound, True)


def _loop(name: str, seconds: dict[str, list[float]]) -> list[Target]:
    if training.TRACKED not in seconds:
        return []
    measured = ratio(seconds[training.TRACKED], seconds[training.BARE])
    return [Target(f"{name}: the loop / its computation", measured, 1.02, False)]


def start(repeats: int, _made_up: bool) -> Measured:
    """How long commands take until they do what they are for."""
    from benchmarks import commands

    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(commands.starts(Path(folder)), repeats)
    measured = ratio(seconds[commands.START], seconds[commands.IMPORTS])
    targets = [Target("mlflow run to the first batch / imports", measured, 1.5, False)]
    return rows("start", seconds, commands.IMPORTS), targets


def tracking(_repeats: int, _made_up: bool) -> Measured:
    """What tracking takes of a run of 30 epochs, and the memory of one on CIFAR-10."""
    from benchmarks import commands

    table, targets = [], []
    with tempfile.TemporaryDirectory() as folder:
        for recipe in ("mlp_numpy", "mlp_torch"):
            share, seconds = commands.shares(recipe, Path(folder))
            way = f"{recipe}, of it {share:.1%} tracking and checkpoints"
            table.append(Row("30 epochs, the whole command", way, *[seconds] * 3, 1, 1.0))
        command = (*commands.EML, "cifar_cnn", "--epochs", "1", "--resume", "false")
        memory = commands.peak_memory(command, Path(folder))
        targets.append(Target("peak memory of cifar_cnn, 10^9 bytes", memory, 1.3, False))
    return table, targets


def compare(repeats: int, _made_up: bool) -> Measured:
    """Reading and comparing the runs of large stores."""
    from benchmarks import commands

    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(commands.comparisons((1000, 10_000), Path(folder)), repeats)
    return rows("compare", seconds, "read 1,000 runs"), []


PARTS: dict[str, Callable[[int, bool], Measured]] = {
    part.__name__: part for part in (numpy_mlp, torch_mlp, cnn, start, tracking, compare)
}
OF_TRAINING = ("numpy_mlp", "torch_mlp", "cnn")


@click.command()
@click.option("--repeats", default=5, show_default=True, help="times that each is measured")
@click.option("--only", help=f"some of {','.join(PARTS)}, separated by commas")
@click.option("--made_up", is_flag=True, help="made-up images; and no mlflow, so training alone")
@click.option(
    "--output",
    default="benchmark-results",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="folder for what is written",
)
def main(repeats: int, only: str | None, made_up: bool, output: Path):
    """Measure, print, and write the results."""
    names = only.split(",") if only else list(OF_TRAINING if made_up else PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise click.BadParameter(f"{unknown[0]}: give some of {', '.join(PARTS)}")
    table, targets = [], []
    report = ""
    for name in names:
        click.echo(f"{name} ...", err=True)
        measured, promised = PARTS[name](repeats, made_up)
        table += measured
        targets += promised
        report = text(table, targets, _facts(repeats))
        write(output, table, targets, report)  # after each, so that a failure loses one alone
    click.echo(report)


def _facts(repeats: int) -> list[str]:
    """What the numbers depend on, and how they were taken."""
    return [
        f"{cpu_name()}, {torch.get_num_threads()} threads"
        + (f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")
        + f"; PyTorch {torch.__version__}, Python {platform.python_version()}; "
        f"{datetime.date.today():%d %B %Y}",
        f"Medians of {repeats} measurements in turn, but of 30 epochs, which are trained once. The "
        "ratio is to the first row of the group.",
    ]


if __name__ == "__main__":
    main()
