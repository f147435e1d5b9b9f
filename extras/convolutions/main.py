"""Measures algorithms of convolution, logs them in MLflow, and draws the figures."""

import os
import platform
import shutil
import tempfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
import torch
from mlflow.entities import Metric

from algorithms import ALGORITHMS
from figures import write_figures
from layers import LAYERS, Layer
from measure import LeftOut, Measurement, measure
from memory import keep_freed_memory

LARGEST_BATCH = 4096
DEVICES = ("auto", "cpu", "cuda")
BATCH_SIZES = "1,2,4,8,16,32,64,128,256"
ABOUT = ("algorithm", "pass_name", "batch_size")  # of a Measurement; the others are metrics


@click.command(context_settings={"show_default": True})
@click.option("--layers", type=click.Choice(list(LAYERS)), default="cnn", help="which to measure")
@click.option("--batch_sizes", default=BATCH_SIZES, help="images, separated by commas")
@click.option("--device", type=click.Choice(DEVICES), default="auto")
@click.option("--output", default="", help="folder for a copy; absolute for `mlflow run`")
def main(layers: str, batch_sizes: str, device: str, output: str) -> None:
    """Measure speed and memory of the cuDNN paper's algorithms, on the layers of a CNN.

    Each result is first compared with PyTorch's in float64. Each algorithm on each layer becomes a
    nested run; the step of its metrics is the batch size.
    """
    sizes = _sizes(batch_sizes)
    place = _device(device)
    by_mlflow = "MLFLOW_RUN_ID" in os.environ  # `mlflow run` has logged the options
    if output:
        _make(output, by_mlflow)
    keep_freed_memory()
    _compute_in_float32()
    hardware = {"hardware": _hardware(place), "threads": str(torch.get_num_threads())}
    options = {"layers": layers, "batch_sizes": batch_sizes, "device": device, "output": output}
    with mlflow.start_run(run_name="convolutions") as run:
        if not by_mlflow:
            mlflow.log_params(options)
        mlflow.set_tags(hardware)
        rows: list[dict[str, Any]] = []
        for layer in LAYERS[layers]:
            measured = _measure(layer, sizes, place)
            _log(layer, measured, hardware)
            rows += [{"layer": layer.name} | asdict(each) | hardware for each in measured]
        with tempfile.TemporaryDirectory() as folder:
            print(write_figures(pd.DataFrame(rows), Path(folder)))
            mlflow.log_artifacts(folder)
            if output:
                shutil.copytree(folder, output, dirs_exist_ok=True)
        print(f"figures and tables: run {run.info.run_id} in {mlflow.get_tracking_uri()}")


def _measure(layer: Layer, sizes: list[int], device: torch.device) -> list[Measurement]:
    """Measure all algorithms on a layer, and print its name and what is left out."""
    print(f"{layer.name}: {', '.join(map(str, sizes))} images", flush=True)
    measured = []
    left_out: dict[tuple[str, str], list[LeftOut]] = defaultdict(list)
    for result in measure(layer, sizes, ALGORITHMS[device.type], device):
        if isinstance(result, Measurement):
            measured.append(result)
        else:
            left_out[result.algorithm, result.why].append(result)
    for (algorithm, why), results in left_out.items():
        passes = " and ".join(dict.fromkeys(r.pass_name.replace("_", " ") for r in results))
        batches = ", ".join(dict.fromkeys(str(r.batch_size) for r in results))
        print(f"{layer.name}: not measured, {algorithm}, {passes}, N = {batches}: {why}")
    return measured


def _log(layer: Layer, measured: list[Measurement], hardware: dict[str, str]) -> None:
    """Log a nested run for each algorithm; metrics are named like `forward_gflop_per_second`."""
    shape = asdict(layer)
    name = shape.pop("name")
    for algorithm in dict.fromkeys(m.algorithm for m in measured):
        with mlflow.start_run(run_name=f"{name} {algorithm}", nested=True) as run:
            mlflow.log_params({"layer": name, "algorithm": algorithm} | shape)
            mlflow.set_tags(hardware)
            metrics = [
                Metric(f"{m.pass_name}_{key}", value, run.info.start_time, m.batch_size)
                for m in measured
                if m.algorithm == algorithm
                for key, value in asdict(m).items()
                if key not in ABOUT and value == value  # NaN: not measured
            ]
            for start in range(0, len(metrics), 1000):  # MLflow's limit for a request
                batch = metrics[start : start + 1000]
                mlflow.MlflowClient().log_batch(run.info.run_id, metrics=batch)


def _sizes(text: str) -> list[int]:
    """The batch sizes, from small to large."""
    parts = {part.strip() for part in text.split(",")}
    if not all(part.isdecimal() and 1 <= int(part) <= LARGEST_BATCH for part in parts):
        raise click.UsageError(
            f"batch_sizes={text}: give numbers from 1 to {LARGEST_BATCH}, separated by commas"
        )
    return sorted(map(int, parts))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("device=cuda: PyTorch finds no GPU here, give cpu or auto")
    return torch.device(name)


def _make(output: str, by_mlflow: bool) -> None:
    """Make the folder for a copy at the start, so that a wrong name fails early."""
    folder = Path(output)
    if by_mlflow and not folder.is_absolute():  # `mlflow run` changes the working directory
        raise click.UsageError(f"output={output}: give an absolute path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"output={output}: {error.strerror}, give a folder") from error


def _compute_in_float32() -> None:
    """A GPU must not round the factors of float32 products to 10 bits (TF32)."""
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def _hardware(device: torch.device) -> str:
    """The maker's name of a device, or at least the processor's architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
