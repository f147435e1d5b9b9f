"""The `convolutions` command: measures algorithms of convolution, each in a nested run."""

import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import torch

from eml.analysis.convolutions import TITLE, write_convolutions
from eml.analysis.options import PAGE
from eml.analysis.page import Part, write_page
from eml.config import resolve_device
from eml.convolutions.layer import DEEPBENCH, Layer, layers_of_the_cnn
from eml.convolutions.measure import measure
from eml.convolutions.measurement import LeftOut, Measurement
from eml.convolutions.table import ALGORITHMS
from eml.models.torch_learner import allow_tf32, hardware_name, keep_freed_memory
from eml.recipes.convolutions import ABOUT, NAME, Options
from eml.tracking import runs
from eml.tracking.measurements import load_measurements, log_measurements
from eml.tracking.publish import make_output, publish, say_where
from eml.tracking.reap import begin


def convolutions(options: Options) -> None:
    """Measure all algorithms on all layers, log them, and draw the figures from the store.

    Raises WrongResultError if an algorithm's result is wrong.
    """
    device = torch.device(resolve_device(options.device))
    make_output(options.output)
    begin(create=True)
    keep_freed_memory()
    allow_tf32(False)
    with runs.run(NAME, ABOUT, {"recipe": NAME}) as parent:
        print(f"{NAME}: {runs.where()}", flush=True)
        for layer in DEEPBENCH if options.layers == "deepbench" else layers_of_the_cnn():
            _measure_layer(layer, options.sizes, device, parent)
        frame = load_measurements([parent])
        with tempfile.TemporaryDirectory() as folder:
            text = write_convolutions(frame, Path(folder), bool(options.output))
            print(text)
            write_page(Path(folder, PAGE), TITLE, [Part(Path(folder), text)])
            publish(Path(folder), options.output)
        say_where(options.output, {})


def _measure_layer(layer: Layer, sizes: list[int], device: torch.device, parent: str) -> None:
    """Measure a layer, say what was left out, and log a nested run for each algorithm."""
    measured: dict[str, list[Measurement]] = defaultdict(list)
    left_out: dict[tuple[str, str], list[LeftOut]] = defaultdict(list)
    announced = 0  # the batch sizes come in order
    for each in measure(layer, sizes, ALGORITHMS[device.type], device):
        if isinstance(each, LeftOut):
            left_out[each.algorithm, each.why].append(each)
        else:
            if each.batch_size != announced:
                announced = each.batch_size
                print(f"{layer.name}, {announced} images", flush=True)
            measured[each.algorithm].append(each)
    for (algorithm, why), which in left_out.items():
        names = " and ".join(dict.fromkeys(each.pass_name.replace("_", " ") for each in which))
        batches = ", ".join(dict.fromkeys(str(each.batch_size) for each in which))
        print(f"{layer.name}: not measured, {algorithm}, {names}, N = {batches}: {why}")
    for algorithm, measurements in measured.items():
        name = f"{layer.name} {algorithm}"
        with runs.run(name, f"Measurements of {name}.", {"recipe": NAME}, parent=parent):
            shape = {k: v for k, v in asdict(layer).items() if k != "name"}
            parameters = {"layer": layer.name, "algorithm": algorithm, "device_type": device.type}
            hardware = {
                "hardware": hardware_name(device),
                "threads": str(torch.get_num_threads()),
            }
            log_measurements(parameters | shape, hardware, measurements)
