"""Measurements of convolutions as runs, and back."""

import math
from dataclasses import replace

import pytest

from eml.convolutions.measurement import PASSES, Measurement
from eml.tracking import runs
from eml.tracking.calls import StoreError
from eml.tracking.measurements import load_measurements, log_measurements
from eml.tracking.selection import SelectionError

ONE = Measurement(
    algorithm="lazy",
    pass_name="forward",
    batch_size=1,
    timestamp=1_000,
    seconds=0.5,
    seconds_low=0.4,
    seconds_high=0.6,
    gflop_per_second=100.0,
    share_of_gemm=0.9,
    extra_bytes=math.nan,
    error=1e-7,
)
PARAMETERS = {"layer": "conv1", "algorithm": "lazy", "device_type": "cpu", "C": 3}


def measured(*measurements: Measurement, interrupted: bool = False) -> str:
    """A finished run of `convolutions` with one nested run; its id."""
    tags = {"recipe": "convolutions"}
    with runs.run("convolutions", "", tags) as parent:
        with runs.run("conv1 lazy", "", tags, parent=parent):
            log_measurements(PARAMETERS, {"hardware": "h", "threads": "2"}, measurements)
        if interrupted:
            raise ValueError
    return parent


def test_what_was_logged_is_read_back(store):
    logged = [replace(ONE, pass_name=name, batch_size=N) for name in PASSES[::-1] for N in (1, 4)]
    frame = load_measurements([measured(*logged)])
    assert list(frame["pass_name"]) == [name for name in PASSES for _ in range(2)]
    assert list(frame["batch_size"]) == [1, 4] * 3
    row = frame.iloc[0].to_dict()
    assert row.pop("run_id")
    assert math.isnan(row.pop("extra_bytes"))
    assert row == {
        "layer": "conv1",
        "algorithm": "lazy",
        "device_type": "cpu",
        "hardware": "h",
        "threads": "2",
        "pass_name": "forward",
        "batch_size": 1,
        "seconds": 0.5,
        "seconds_low": 0.4,
        "seconds_high": 0.6,
        "gflop_per_second": 100.0,
        "share_of_gemm": 0.9,
        "error": 1e-7,
    }


def test_the_newest_finished_run_is_taken_alone(store):
    with pytest.raises(SelectionError, match="no finished run of convolutions"):
        load_measurements([])
    measured(ONE)
    newest = measured(replace(ONE, seconds=7.0))
    with pytest.raises(ValueError):  # noqa: PT011, it is the one raised here
        measured(replace(ONE, seconds=9.0), interrupted=True)
    assert list(load_measurements([])["seconds"]) == [7.0]
    assert list(load_measurements([newest])["seconds"]) == [7.0]


def test_two_machines_are_read_together(store):
    frame = load_measurements([measured(ONE), measured(replace(ONE, seconds=7.0))])
    assert list(frame["seconds"]) == [0.5, 7.0]


def test_a_run_without_measurements_is_named(store):
    with runs.run("other", "", {}) as run_id:
        pass
    with pytest.raises(SelectionError, match="no measurement"):
        load_measurements([run_id])
    with pytest.raises(StoreError):
        load_measurements(["0" * 32])
