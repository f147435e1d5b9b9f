"""A store that commit e471618 wrote is read, with the same numbers, and never changed.

The archive holds its mlflow.db: trainings on the synthetic data, among them a sweep with two seeds,
a diverged run, and a search with pruned trainings. RECIPE.csv is the summary of `eml compare`, and
ex3.zip the hand-in, both by e471618 too; to keep the archive small, PDF and source are left out.
"""

import hashlib

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from eml.analysis.options import Selection
from eml.tracking.compare import compare


@pytest.fixture
def theirs(old_store, store, monkeypatch):
    """The folder of the old store, beside an empty store here; afterwards it is as it was."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "Default")  # of both
    before = hashlib.sha256((old_store / "mlflow.db").read_bytes()).digest()
    yield old_store
    assert hashlib.sha256((old_store / "mlflow.db").read_bytes()).digest() == before


@pytest.mark.parametrize("recipe", ["lr_sweep", "cifar_cnn", "optimizers", "mlp_vs_cnn"])
def test_compare_says_the_same_numbers(theirs, tmp_path, recipe, capsys, png_only):
    output = tmp_path / "output"
    compare(Selection(recipe=recipe, stores=str(theirs), output=str(output)))
    expected = pd.read_csv(theirs / f"{recipe}.csv")
    # Pairs are judged otherwise since: a pair may be "not judged".
    expected = expected.loc[:, ~expected.columns.str.endswith("separable_from")]
    # Optimizers are written as PyTorch writes them since.
    names = {"momentum": "SGD with momentum", "adam": "Adam", "sgd": "SGD"}
    expected["curve"] = expected["curve"].replace(names, regex=True)
    assert_frame_equal(pd.read_csv(output / "summary.csv")[list(expected)], expected)
    left_out = [s for s in capsys.readouterr().out.splitlines() if s.startswith("left out")]
    assert all("evaluated on validation images" in line for line in left_out)
