"""Everything that eml promises of its speed, measured beside the other ways of doing the same.

    python -m benchmarks                      30 to 60 minutes on two CPU cores
    python -m benchmarks --only cnn,start     two parts of it

Writes results.md, results.csv, targets.csv and results.png after each part. A folder that has the
results of another processor keeps them beside the new ones. A target is a share of a limit that is
measured in the same turns. OMP_NUM_THREADS and OPENBLAS_NUM_THREADS set to 1 measure one core, as
jobs on a cluster have it.
"""

import datetime
import importlib.metadata
import platform
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import torch
from threadpoolctl import threadpool_info

from benchmarks import training
from benchmarks.table import Machine, Row, Target, rows, target, write
from benchmarks.turns import in_turn, ratio
from eml.config import Config
from eml.machine import cpu_instructions, cpu_name
from eml.recipes import cifar_cnn, mlp_numpy, mlp_torch

CNN_IMAGES = 12_800  # 200 batches: an epoch of 50,000 takes longer than a machine stays the same
WIDEST = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
Measured = tuple[list[Row], list[Target]]


def numpy_mlp(repeats: int, made_up: bool) -> Measured:
    """An epoch of mlp_numpy on all of MNIST."""
    (config,) = mlp_numpy.configs(mlp_numpy.Options())
    return _training("NumPy MLP", "an epoch of MNIST", config, repeats, made_up, 0.6)


def torch_mlp(repeats: int, made_up: bool) -> Measured:
    """An epoch of mlp_torch on all of MNIST."""
    (config,) = mlp_torch.configs(mlp_torch.Options())
    return _on_each("PyTorch MLP", "an epoch of MNIST", config, repeats, made_up, 0.3)


def cnn(repeats: int, made_up: bool) -> Measured:
    """A quarter of an epoch of cifar_cnn."""
    (config,) = cifar_cnn.configs(cifar_cnn.Options(subset=CNN_IMAGES))
    what = f"{CNN_IMAGES:,} images of CIFAR-10"
    return _on_each("CNN", what, config, repeats, made_up, 0.6)


def _on_each(
    name: str, what: str, config: Config, repeats: int, made_up: bool, share: float
) -> Measured:
    """On the CPU, and where there is a GPU on that, too."""
    table, targets = _training(name, what, config, repeats, made_up, share)
    if torch.cuda.is_available():
        name, config = f"{name} on the GPU", replace(config, device_type="cuda")
        seconds = in_turn(training.ways(config, made_up), repeats)
        table += rows(f"{name}, {what}", seconds, training.OURS)
        ours, course = seconds[training.OURS], seconds[training.COURSE]
        targets += [
            target(f"{name}: the course's way / eml", ratio(course, ours), 30, at_least=True),
            target(f"{name}: eml / its kernels", ratio(ours, seconds[training.KERNELS]), 1.5),
        ]
    return table, targets


def _training(
    name: str, what: str, config: Config, repeats: int, made_up: bool, share: float
) -> Measured:
    """A training on the CPU; share: of the speed of bare matrix products that it is to reach."""
    seconds = in_turn(training.ways(config, made_up), repeats)
    ours, products = seconds[training.OURS], seconds[training.PRODUCTS]
    targets = [
        target(f"{name}: matrix products / eml", ratio(products, ours), share, at_least=True)
    ]
    if training.TRACKED in seconds:
        whole = ratio(seconds[training.TRACKED], ours)
        targets.append(target(f"{name}: with clocks and tracking / without", whole, 1.02))
    return rows(f"{name}, {what}", seconds, training.OURS), targets


def start(repeats: int, _made_up: bool) -> Measured:
    """How long commands take until they do what they are for."""
    from benchmarks import commands

    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(commands.starts(Path(folder)), repeats)
    measured = ratio(seconds[commands.START], seconds[commands.IMPORTS])
    targets = [target("eml mlp_torch to the first batch / imports", measured, 1.5)]
    return rows("start", seconds, commands.IMPORTS), targets


def tracking(_repeats: int, _made_up: bool) -> Measured:
    """What tracking takes of a run of 30 epochs, and the memory of one on CIFAR-10."""
    from benchmarks import commands

    table, targets = [], []
    with tempfile.TemporaryDirectory() as folder:
        for recipe in ("mlp_numpy", "mlp_torch"):
            share, seconds = commands.shares(recipe, Path(folder))
            table += rows("30 epochs, the whole command", {recipe: [seconds]}, recipe)
            targets.append(target(f"{recipe}: share of tracking and checkpoints", share, 0.015))
        command = (*commands.EML, "cifar_cnn", "--epochs", "1", "--resume", "false")
        memory = commands.peak_memory(command, Path(folder))
        targets.append(target("peak memory of cifar_cnn, 10^9 bytes", memory, 1.3))
    return table, targets


def compare(repeats: int, _made_up: bool) -> Measured:
    """Reading and comparing the runs of large stores."""
    from benchmarks import commands

    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(commands.comparisons((1000, 10_000), Path(folder)), repeats)
    targets = [
        target(f"{way} / {plain}", ratio(seconds[way], seconds[plain]), bound)
        for way, plain, bound in (
            (commands.HANDFUL, commands.PLAIN_HANDFUL, 1.5),
            (commands.ALL, commands.PLAIN_ALL, 2),
        )
    ]
    return rows("compare", seconds, "read 1,000 runs"), targets


def busy(_repeats: int, made_up: bool) -> Measured:
    """The same epoch beside busy processes, by the number of threads; three turns."""
    from benchmarks.busy import ALL, AUTO, ONE, late_ways, ways
    from benchmarks.busy import busy as beside

    table, targets = [], []
    for name, config in {
        "NumPy MLP": mlp_numpy.configs(mlp_numpy.Options(subset=3_200))[0],
        "PyTorch MLP": mlp_torch.configs(mlp_torch.Options(subset=3_200))[0],
        "CNN": cifar_cnn.configs(cifar_cnn.Options(subset=320))[0],
    }.items():
        for count, bound in {0: 1.1, 1: 1.3, 2: 1.3, 6: 1.3}.items():
            with beside(count):
                seconds = in_turn(ways(config, made_up), 3)
            best = [min(forced) for forced in zip(seconds[ONE], seconds[ALL], strict=True)]
            what = f"{name} beside {count} busy processes"
            table += rows(f"{what}, an epoch of {config.subset:,} images", seconds, ONE)
            measured = ratio(seconds[AUTO], best)
            targets.append(target(f"{what}: threads=auto / the faster number", measured, bound))
        seconds = in_turn(late_ways(config, made_up), 3)
        what = f"{name}, 4 busy processes from the third epoch on"
        table += rows(f"{what}, an epoch from the fifth on", seconds, ONE)
        measured = ratio(seconds[AUTO], seconds[ONE])
        targets.append(target(f"{what}: threads=auto / one thread", measured, 1.5))
    return table, targets


PARTS: dict[str, Callable[[int, bool], Measured]] = {
    part.__name__: part for part in (numpy_mlp, torch_mlp, cnn, busy, start, tracking, compare)
}
OF_TRAINING = ("numpy_mlp", "torch_mlp", "cnn", "busy")


@click.command()
@click.option("--repeats", default=5, show_default=True, help="times that each is measured")
@click.option("--only", help=f"some of {','.join(PARTS)}, separated by commas")
@click.option("--made_up", is_flag=True, help="made-up images; training alone")
@click.option(
    "--output",
    default="benchmark-results",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="folder for what is written; results of other processors there are kept",
)
def main(repeats: int, only: str | None, made_up: bool, output: Path) -> None:
    """Measure, print, and write the results."""
    names = only.split(",") if only else list(OF_TRAINING if made_up else PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise click.BadParameter(f"{unknown[0]}: give some of {', '.join(PARTS)}")
    report = ""
    for name in names:
        click.echo(f"{name} ...", err=True)
        try:
            measured, promised = PARTS[name](repeats, made_up)
        except KeyboardInterrupt:
            click.echo(f"stopped in {name}; the parts before it are in {output}", err=True)
            raise SystemExit(130) from None
        report = write(output, _machine(), measured, promised)
    click.echo(report)


def _machine() -> Machine:
    """What the numbers of this machine depend on."""
    blas = [
        f"NumPy: OpenBLAS {library['version']} for {library['architecture']}"
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    ]
    match = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    blas.append(f"PyTorch: {match[1] if match else 'unknown'}")
    processor = cpu_name()
    if torch.cuda.is_available():
        processor += f", {torch.cuda.get_device_name()}"
    instructions = cpu_instructions()
    return Machine(
        processor=processor,
        threads=torch.get_num_threads(),
        instructions=next((name for name in WIDEST if name in instructions), "no AVX2"),
        blas=", ".join(blas),
        software=f"eml {importlib.metadata.version('eml')}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}",
        day=f"{datetime.date.today():%d %B %Y}",
    )


if __name__ == "__main__":
    main()
