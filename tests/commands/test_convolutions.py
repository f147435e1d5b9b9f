"""`convolutions` and its comparison, as commands, and what they leave in the store."""

from pathlib import Path

import pandas as pd
import pytest

from eml.commands import convolutions as command
from eml.convolutions import measure as module
from eml.convolutions.layer import Layer
from support.commands import call, eml_command, mlflow_command, stored_runs

FIGURES = ["memory_over_batch_size.png", "rate_over_batch_size.png", "share_of_gemm.png"]


@pytest.fixture
def two_small_layers(monkeypatch):
    layers = [Layer("a", 2, 9, 8, 3, 3, 3), Layer("b", 3, 8, 8, 4, 3, 3, stride=2)]
    monkeypatch.setattr(command, "layers_of_the_cnn", lambda: layers)
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "SHORTEST", 0.0)


def figures(store, run_id: str) -> list[str]:
    return sorted(Path(f.path).name for f in store.list_artifacts(run_id) if f.path.endswith("png"))


def test_every_measurement_is_a_run_that_compare_draws(store, eml, two_small_layers, tmp_path):
    result = eml("convolutions", "--batch_sizes", "4,1", "--output", str(tmp_path / "copy"))
    assert result.returncode == 0, result.stderr
    assert "b: not measured, winograd" in result.stdout
    parent, *nested = stored_runs(store)
    assert (parent.info.run_name, parent.info.status) == ("convolutions", "FINISHED")
    assert figures(store, parent.info.run_id) == FIGURES
    assert sorted(file.name for file in (tmp_path / "copy").glob("*.png")) == FIGURES
    lazy = {run.info.run_name: run for run in nested}["b lazy"]
    shape = {"layer": "b", "algorithm": "lazy", "C": "3", "K": "4", "stride": "2", "padding": "0"}
    assert shape.items() <= lazy.data.params.items()
    assert lazy.data.tags["hardware"]
    points = store.get_metric_history(lazy.info.run_id, "data_gradient_gflop_per_second")
    assert [point.step for point in points] == [1, 4]
    table = pd.read_csv(tmp_path / "copy" / "convolutions.csv")
    row = table.query("run_id == @lazy.info.run_id and pass_name == 'data_gradient'").iloc[-1]
    assert (row["batch_size"], row["gflop_per_second"]) == (4, points[-1].value)
    assert list(table["pass_name"].unique()) == ["forward", "data_gradient", "filter_gradient"]

    for chosen in ((), ("--runs", lazy.info.run_id)):
        result = eml("compare", "--plot", "convolutions", *chosen)
        assert result.returncode == 0, result.stderr
        newest = stored_runs(store)[-1]
        assert figures(store, newest.info.run_id) == FIGURES
        assert ("| explicit" in result.stdout) is ("--runs" not in chosen)
        sources = newest.data.tags["source_runs_1"].split(",")
        assert lazy.info.run_id in sources
        assert set(sources) <= {run.info.run_id for run in nested}
    result = eml("compare", "--parent", parent.info.run_id)
    assert result.returncode == 2
    assert "give plot=convolutions" in result.stderr


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("convolutions", "--layers", "vgg"), "layers=vgg: give one of cnn, deepbench"),
        (("convolutions", "--batch_sizes", "0,1"), "batch_sizes=0,1: give numbers from 1 to 4096"),
        (("convolutions", "--batch_sizes", "a"), "batch_sizes=a: give whole numbers separated"),
        (("convolutions", "--device", "cuda"), "device=cuda: PyTorch finds no GPU here"),
        (("compare", "--plot", "convolutions"), "no finished run of convolutions in "),
        (
            ("compare", "--plot", "convolutions", "--recipe", "lr_sweep"),
            "recipe and filter have no effect with plot=convolutions",
        ),
    ],
)
def test_bad_input_is_one_line(options, line, store, eml):
    result = eml(*options)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert line in result.stderr
    assert not stored_runs(store)


@pytest.mark.slow
def test_as_an_entry_point_on_the_layers_of_the_cnn(store, environment):
    result = call(mlflow_command("convolutions", batch_sizes="1,2"))
    assert result.returncode == 0, result.stderr
    assert len(stored_runs(store)) == 1 + 3 * 9 - 1  # Winograd cannot do the second layer
    result = call(eml_command("compare", "--plot", "all"))
    assert result.returncode == 0, result.stderr
    assert "## convolutions\n" in result.stdout
    assert "conv3" in result.stdout
    assert "mlp_numpy: no finished training" in result.stdout
