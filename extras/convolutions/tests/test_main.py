"""The project as `mlflow run` runs it, and what it leaves in the store."""

import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner

from main import main

PROJECT = Path(__file__).parents[1]
FIGURES = ["memory_over_batch_size.png", "rate_over_batch_size.png", "share_of_gemm.png"]
FILES = ["convolutions.csv", "convolutions.md", *FIGURES]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The client of a store in tmp_path, also for subprocesses."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    # `--env-manager local` takes the python that is first on the PATH.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient(uri)
    client.create_experiment("test", artifact_location=(tmp_path / "mlruns").as_uri())
    return client


def project(path: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    """`mlflow run` of the project in `path`."""
    command = [sys.executable, "-m", "mlflow", "run", str(path), "--env-manager", "local"]
    command += ["--experiment-name", "test"]
    for name, value in parameters.items():
        command += ["-P", f"{name}={value}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def stored_runs(store) -> list:
    experiment = store.get_experiment_by_name("test")
    return store.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def test_every_algorithm_on_every_layer_is_a_nested_run(store, tmp_path):
    result = project(PROJECT, batch_sizes="2, 1", output=str(tmp_path / "copy"))
    assert result.returncode == 0, result.stderr
    assert "conv2: not measured, winograd, forward and data gradient and" in result.stdout
    assert "| explicit |" in result.stdout
    parent, *nested = stored_runs(store)
    assert (parent.info.run_name, parent.info.status) == ("convolutions", "FINISHED")
    assert parent.data.params["batch_sizes"] == "'2, 1'"  # as MLflow logs it
    assert sorted(file.path for file in store.list_artifacts(parent.info.run_id)) == FILES
    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == FILES
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}

    lazy = {run.info.run_name: run for run in nested}["conv2 lazy"]
    shape = {"layer": "conv2", "algorithm": "lazy", "C": "32", "K": "64", "stride": "2"}
    assert shape.items() <= lazy.data.params.items()
    assert lazy.data.tags["hardware"]
    points = store.get_metric_history(lazy.info.run_id, "data_gradient_gflop_per_second")
    assert [point.step for point in points] == [1, 2]
    table = pd.read_csv(tmp_path / "copy" / "convolutions.csv")
    rows = table.query("layer == 'conv2' and algorithm == 'lazy' and pass_name == 'data_gradient'")
    assert list(rows["batch_size"]) == [1, 2]
    assert list(rows["gflop_per_second"]) == [point.value for point in points]
    names = table["layer"] + " " + table["algorithm"]
    assert sorted(run.info.run_name for run in nested) == sorted(names.unique())


@pytest.mark.slow
def test_from_the_root_of_the_repository(store, monkeypatch):
    monkeypatch.chdir(PROJECT.parents[1])
    result = project(Path("extras/convolutions"), batch_sizes="1")
    assert result.returncode == 0, result.stderr
    assert stored_runs(store)[0].info.status == "FINISHED"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--layers", "vgg"], "'vgg' is not one of 'cnn', 'deepbench'"),
        (["--batch_sizes", "0,1"], "batch_sizes=0,1: give numbers from 1 to 4096"),
        (["--batch_sizes", "a"], "batch_sizes=a: give numbers from 1 to 4096"),
        (["--output", __file__], f"output={__file__}: File exists, give a folder"),
    ],
)
def test_bad_input_ends_in_a_line_that_says_what_is_valid(options, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 2
    assert line in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []  # no store


def test_the_project_stands_without_eml():
    for file in PROJECT.rglob("*.py"):
        lines = file.read_text().splitlines()
        assert not [line for line in lines if line.startswith(("import eml", "from eml"))], file
