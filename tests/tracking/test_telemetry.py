"""Telemetry: the peak of memory of each training, and MLflow's system metrics where asked for."""

import numpy as np

from eml.tracking import telemetry
from support.commands import stored_runs, train


def test_the_peak_is_that_since_the_reset():
    large = np.ones(50_000_000)  # 400 MB
    assert large.sum() == 5e7
    del large
    before = telemetry.peaks()["peak_memory_mb"]
    telemetry.reset_peaks()
    after = telemetry.peaks()["peak_memory_mb"]
    assert before - after > 350
    large = np.ones(25_000_000)
    assert 150 < telemetry.peaks()["peak_memory_mb"] - after < 300
    assert large.sum() == 2.5e7


def test_a_training_has_its_peak_and_system_metrics_if_wanted(small_data, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    train("mlp_numpy", epochs=3)
    train("mlp_numpy", epochs=3, seed=2, system_metrics=True)
    without, with_them = stored_runs(store)
    for run in (without, with_them):
        assert run.data.metrics["peak_memory_mb"] > 50
    assert not [name for name in without.data.metrics if name.startswith("system/")]
    assert "system/cpu_utilization_percentage" in with_them.data.metrics
    assert without.data.tags["system_metrics"] == "false"
    assert with_them.data.tags["system_metrics"] == "true"
