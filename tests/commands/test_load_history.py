"""Histories for notebooks and other programs: eml.load_history, history.csv, own_plots.py."""

import subprocess
import sys

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
    assert_frame_equal(package.load_history("lr_sweep"), sweep)
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


def test_the_script_of_the_docs_draws(sweep, environment, tmp_path):
    script = [sys.executable, str(ROOT / "docs/own_plots.py")]
    result = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "own_plot.png").read_bytes().startswith(b"\x89PNG")
    assert "mlp sgd lr=0.01 seed=1 mlp_numpy" in result.stdout
