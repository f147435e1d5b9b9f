"""docs/colab.ipynb, on the CPU with few images: what it shows is what the store holds."""

import json
import re
import shlex
import zipfile

import mlflow
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from pandas.testing import assert_frame_equal

from eml import load_history, load_model
from eml.errors import UserError
from support.commands import ROOT, run_here, stored_runs

SIZE = "IMAGES, EPOCHS = 0, 30 "
# After the last cell: what the plot draws, and the frame that it is drawn from.
DRAWN = """
import json
lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
json.dumps([lines, history["run_id"].tolist()])
"""


@pytest.fixture
def executed(store, environment, tmp_path):
    notebook = nbformat.read(ROOT / "docs/colab.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 6
    assert not any(cell.outputs for cell in code)  # outputs in the repository would grow old
    assert [cell.source for cell in code if "skip-execution" in cell.metadata.get("tags", [])] == [
        "%pip install --quiet ./eml.zip"
    ]
    (training,) = [cell for cell in code if SIZE in cell.source]
    training.source = training.source.replace(SIZE, "IMAGES, EPOCHS = 100, 2 ")
    notebook.cells.append(nbformat.v4.new_code_cell(DRAWN))
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    return notebook


@pytest.mark.slow
def test_the_notebook_draws_what_the_store_holds_and_takes_it_home(
    executed, store, small_data, png_only, tmp_path, monkeypatch
):
    *_, frame, plot, _, drawn = [cell for cell in executed.cells if cell.cell_type == "code"]
    trainings = {r.data.params["model"]: r for r in stored_runs(store) if "model" in r.data.params}
    assert trainings.keys() == {"mlp", "cnn"}
    assert {run.data.params["train_images"] for run in trainings.values()} == {"100"}
    lines, run_ids = json.loads(drawn.outputs[0].data["text/plain"].strip("'"))
    assert lines.keys() == trainings.keys()
    table = frame.outputs[0].data["text/html"]
    for model, run in trainings.items():
        seconds, accuracies = (
            [point.value for point in store.get_metric_history(run.info.run_id, name)]
            for name in ("train_seconds", "test_accuracy")
        )
        assert len(seconds) == 3
        np.testing.assert_allclose(lines[model], np.stack([seconds, np.dot(100, accuracies)], 1))
        assert run.info.run_id in table
        assert f"<td>{run.data.metrics['test_loss']:.6f}</td>" in table
    (image,) = [output.data["image/png"] for output in plot.outputs if "data" in output]
    assert len(image) > 5000

    here = load_history()
    assert here["run_id"].tolist() == run_ids
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/home/mlflow.db")
    with pytest.raises(UserError, match="there is no store sqlite"):
        load_model(run_ids[0])
    zipfile.ZipFile(tmp_path / "colab.zip").extractall("colab")
    (tmp_path / "mlruns").rename(tmp_path / "gone")
    there = load_history(stores=["colab/mlflow.db"])
    assert set(there["store"]) == {"colab/mlflow.db"}
    assert_frame_equal(there.drop(columns="store"), here.drop(columns="store"))
    text = "\n".join(cell.source for cell in executed.cells if cell.cell_type == "markdown")
    command = re.search(r"^eml (compare .*--stores colab/mlflow.db)$", text, re.MULTILINE)[1]
    done = run_here(*shlex.split(command))
    assert done.returncode == 0, done.stderr
    assert "final test accuracy" in done.stdout
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/home/colab/mlflow.db")
    config, network = load_model(trainings["cnn"].info.run_id)
    assert (config.model, len(list(network.parameters()))) == ("cnn", 10)
