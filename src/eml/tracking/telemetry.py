"""Telemetry of a training: MLflow's system metrics while it goes on, and its peak of memory."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from eml.machine import peak_memory, reset_peak_memory


@contextmanager
def system_metrics(run_id: str, wanted: bool) -> Iterator[None]:
    """A context in which MLflow logs its system metrics to a run every ten seconds, if wanted."""
    if not wanted:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def reset_peaks() -> None:
    """Begin to measure the peaks of memory anew."""
    with suppress(OSError):  # not Linux
        reset_peak_memory()
    for cuda in _gpu():
        cuda.reset_peak_memory_stats()


def peaks() -> dict[str, float]:
    """Metrics: the most memory of this process, and on its GPU, since reset_peaks(), in MB.

    Without those that cannot be measured here.
    """
    found = {}
    with suppress(OSError):
        found["peak_memory_mb"] = peak_memory() / 1e6
    for cuda in _gpu():
        found["peak_gpu_memory_mb"] = cuda.max_memory_allocated() / 1e6
    return found


def _gpu() -> list:
    """torch.cuda, if this process can have used a GPU; torch takes seconds to import."""
    torch = sys.modules.get("torch")
    return [torch.cuda] if torch and torch.cuda.is_available() else []
