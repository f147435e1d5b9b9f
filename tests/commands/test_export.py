"""Histories for notebooks and other programs: eml.load_history, `eml export`, own_plots.py."""

import subprocess
import sys

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import eml as package
from eml.tracking.history import METRICS
from support.commands import ROOT, train


@pytest.fixture
def sweep(small_data, store):
    train("lr_sweep", epochs=2, lrs="1,0.5,0.1,0.05,0.01")
    return package.load_history()


def test_load_history_is_the_frame_that_compare_draws(sweep, capsys):
    assert len(sweep) == 5 * 3
    assert list(sweep["epoch"]) == [0, 1, 2] * 5
    assert sweep["learning_rate"].unique().tolist() == [1.0, 0.5, 0.1, 0.05, 0.01]
    one = sweep["run_id"].iloc[0]
    assert_frame_equal(package.load_history(runs=[one]), sweep[sweep["run_id"] == one])
    assert capsys.readouterr().out.count("left out") == 0
    # Every column that the docstring names is there.
    words = set(package.load_history.__doc__.replace(",", " ").replace(":", " ").split())
    assert set(METRICS) <= words
    for name in ("run_id", "run_name", "status", "start_time", "train_images", "git_commit"):
        assert name in words
        assert name in sweep
    assert {"hardware", "threads", "dataset_digest", "recipe", "parameters"} <= words & set(sweep)


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("csv", pd.read_csv),
        pytest.param("parquet", pd.read_parquet, marks=pytest.mark.slow),
    ],
)
def test_export_writes_runs_and_epochs(kind, read, sweep, eml, tmp_path):
    result = eml("export", "--format", kind, "--output", "tables")
    assert result.returncode == 0, result.stderr
    runs, epochs = (read(tmp_path / "tables" / f"{name}.{kind}") for name in ("runs", "epochs"))
    assert len(runs) == runs["run_id"].nunique() == 5
    assert set(epochs) == {"run_id", "epoch", *METRICS}
    both = epochs.merge(runs, on="run_id")
    for name in ("test_loss", "train_seconds", "learning_rate", "epoch"):
        assert both[name].tolist() == pytest.approx(sweep[name].tolist(), abs=0)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--output", "t", "--format", "xlsx"), "format=xlsx: give one of csv, parquet"),
        ((), "output: give a new folder for the tables"),
        (("--output", "t"), "no finished training in "),
        (("--output", "t", "--runs", ","), "runs=,: give run ids separated by commas"),
    ],
)
def test_bad_input_writes_nothing(options, line, store, eml, tmp_path):
    result = eml("export", *options)
    assert result.returncode == 2
    assert line in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "t").exists()


def test_the_script_of_the_docs_draws(sweep, environment, tmp_path):
    script = [sys.executable, str(ROOT / "docs/own_plots.py")]
    result = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "own_plot.png").read_bytes().startswith(b"\x89PNG")
    assert "sgd lr=0.01 seed=1 mlp_numpy" in result.stdout
