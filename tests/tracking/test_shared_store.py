"""One store for several processes: `mlflow server` on PostgreSQL, which nothing gets lost in."""

import re
import subprocess
import threading
from contextlib import ExitStack

import mlflow

from eml.analysis.options import Selection
from eml.tracking.history import METRICS, load_history
from support.commands import eml_command, stored_runs
from support.servers import free_port, mlflow_server

RATES = "1,0.5,0.2,0.1,0.05,0.02,0.01,0.001"
EPOCHS = 40


def assert_every_point_is_there(client) -> None:
    parent, *children = sorted(
        stored_runs(client), key=lambda run: "training_digest" in run.data.tags
    )
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 9
    logged = [m for m in METRICS if not m.startswith("validation_") and m != "setup_seconds"]
    for run in children:
        for metric in logged:
            points = client.get_metric_history(run.info.run_id, metric)
            first = 1 if metric in ("images_per_second", "slowdown") else 0  # of epochs
            assert [point.step for point in points] == list(range(first, EPOCHS + 1)), metric
    frame, _ = load_history(Selection())
    assert len(frame) == 8 * (EPOCHS + 1)
    assert frame["test_accuracy"].notna().all()


def test_a_server_that_is_restarted_under_load_loses_nothing(
    database, environment, tmp_path, monkeypatch
):
    """Eight trainings at once."""
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    command = ["lr_sweep", "--lrs", RATES, "--epochs", str(EPOCHS), "--launcher", "local"]
    port = free_port()
    served = tmp_path / "served"
    with ExitStack() as first, ExitStack() as second:
        address = first.enter_context(mlflow_server(database, served, port))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
        mlflow.set_tracking_uri(address)
        client = mlflow.MlflowClient(address)
        client.create_experiment("test")
        process = second.enter_context(
            subprocess.Popen(
                eml_command(*command, "--jobs", "8"), stdout=subprocess.PIPE, text=True
            )
        )
        at_work = set()
        for line in process.stdout:
            at_work |= set(re.findall(r"^\[(\d)/8\].*epoch +5/", line))
            if len(at_work) == 4:
                break
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        first.close()
        second.enter_context(mlflow_server(database, served, port))
        assert process.wait(timeout=300) == 0
        drain.join()
        assert_every_point_is_there(client)
    mlflow.set_tracking_uri(None)
