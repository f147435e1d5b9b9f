"""A store that version 0.1 wrote is read: its trainings are drawn, its weights are scored.

The archive holds mlp_numpy (with weights), cifar_cnn with two optimizers, and lr_sweep, all trained
on the synthetic data. Version 0.1 logged the parameter convolution_type, which has gone since.
"""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from eml.analysis.options import CompareOptions
from eml.commands.compare import compare
from eml.commands.evaluate import evaluate
from eml.tracking.history import load_history
from eml.tracking.selection import Selection
from support.commands import ROOT

ARCHIVE = ROOT / "tests/support/store_0.1.tar.xz"
WHERE_IT_WAS = "/tmp/fix/store"  # artifact URIs are absolute


@pytest.fixture
def old_store(small_data, tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (WHERE_IT_WAS, str(tmp_path)),
            )
        database.commit()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path
    mlflow.set_tracking_uri(None)


def test_compare_draws_it(old_store, capsys):
    compare(CompareOptions(recipe="cifar_cnn", output=str(old_store / "figures")))
    table = pd.read_csv(old_store / "figures/summary.csv").set_index("optimizer")
    assert table["final_test_accuracy"].to_dict() == {"adam": 0.875, "sgd": 0.1}
    assert (old_store / "figures/test_accuracy_over_epochs.png").stat().st_size > 10_000
    assert "left out" not in capsys.readouterr().out


def test_a_sweep_of_it_is_read(old_store):
    history, left_out = load_history(Selection(recipe="lr_sweep"))
    assert left_out == []
    assert history["run_id"].nunique() == 10
    assert set(history["learning_rate"]) == {1, 0.5, 0.1, 0.05, 0.01}


def test_evaluate_scores_its_weights(old_store, capsys):
    evaluate("7c642ebd", "cpu")
    assert "test accuracy 0.7000 on 100 images, logged 0.7000" in capsys.readouterr().out
