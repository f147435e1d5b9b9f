"""Telemetry: the peak of memory of each training, and MLflow's system metrics where asked for."""

import json
import sys

from support.commands import call, stored_runs, train

# In a process of its own, because a learner keeps freed memory for the rest of its process.
PEAKS = """
import json
import numpy as np
from eml.tracking import telemetry
def peak():
    return telemetry.peaks()["peak_memory_mb"]
np.ones(50_000_000)  # 400 MB
found = [peak()]
telemetry.reset_peaks()
found.append(peak())
np.ones(25_000_000)
print(json.dumps([*found, peak()]))
"""


def test_the_peak_is_that_since_the_reset():
    result = call([sys.executable, "-c", PEAKS])
    assert result.returncode == 0, result.stderr
    large, reset, small = json.loads(result.stdout)
    assert large - reset > 350
    assert 150 < small - reset < 250


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
