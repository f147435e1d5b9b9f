"""Which runs are selected, and that every way to read them gives the same frame."""

import sys
from pathlib import Path
from unittest.mock import Mock

import mlflow
import pandas as pd
import pytest

from eml.analysis.comparison import Comparison
from eml.analysis.options import Selection
from eml.analysis.summary import summary
from eml.errors import UserError
from eml.tracking import readers
from eml.tracking.compare import compare
from eml.tracking.history import METRICS, load_history
from support.commands import add_training, call, stored_runs, train


def add_sweep(client, epochs: int = 1, subset: int = 0) -> tuple[str, list[str]]:
    """An lr_sweep of two rates, made by hand: the ids of the parent and of its trainings."""
    experiment = client.get_experiment_by_name("test").experiment_id
    names = {"recipe": "lr_sweep", "mlflow.runName": "lr_sweep"}
    parent = client.create_run(experiment, tags=names).info.run_id
    of_parent = {"mlflow.parentRunId": parent}
    children = [
        add_training(client, "mlp_numpy", tags=of_parent, lr=lr, epochs=epochs, subset=subset)
        for lr in (0.1, 0.01)
    ]
    client.set_terminated(parent)
    return parent, children


def selected(**selection) -> list[str]:
    return load_history(Selection(**selection))[0]["run_id"].unique().tolist()


def test_the_newest_group_is_taken(store):
    alone = add_training(store, seed=1)
    _, children = add_sweep(store)
    assert selected() == children
    other_seed = add_training(store, seed=2)
    assert selected() == [alone, other_seed]
    assert selected(recipe="lr_sweep") == children
    _, deleted = add_sweep(store)
    for run_id in deleted:
        store.delete_run(run_id)
    assert selected() == [alone, other_seed]


def test_runs_by_id_parent_and_filter(store):
    parent, children = add_sweep(store)
    assert selected(runs=parent) == children
    assert selected(runs=",".join(children[::-1])) == children[::-1]
    assert selected(filter="params.learning_rate = '0.1'") == children[:1]
    store.create_experiment("other")
    with pytest.raises(UserError, match="no finished training"):
        selected(experiment="other")


def test_what_a_group_leaves_out_is_said(store):
    """A finished run is taken before a newer one that is not."""
    older, newer, stopped = (add_training(store, finished=n < 2) for n in range(3))
    unfinished = add_training(store, seed=3, points={"test_accuracy": [0.5]}, finished=False)
    frame, left_out = load_history(Selection(recipe="mlp_torch"))
    assert set(frame["run_id"]) == {newer, unfinished}
    assert left_out == [
        f"left out, not finished, run again with the same Config: {stopped}",
        f"left out, run again since with the same Config: {older}",
    ]
    # Its status is in the frame, and the summary does not count it.
    assert frame.drop_duplicates("run_id")["status"].tolist() == ["FINISHED", "RUNNING"]
    assert sum(row.complete for row in summary(Comparison(frame))) == 1
    assert selected(runs=older) == [older]


def test_a_tag_never_takes_the_place_of_what_was_logged(store):
    tags = {"learning_rate": "9", "epoch": "x", "test_accuracy": "1", "run_id": "y"}
    run_id = add_training(store, tags=tags, points={"test_accuracy": [0.5]}, finished=False)
    frame, _ = load_history(Selection(runs=run_id))
    (row,) = frame.to_dict("records")
    assert (row["learning_rate"], row["epoch"], row["test_accuracy"]) == (0.1, 0, 0.5)
    assert row["run_id"] == run_id


def test_the_frame_is_what_was_logged(small_data, store):
    train("mlp_torch", epochs=2, device="cpu")
    (run,) = stored_runs(store)
    frame, _ = load_history(Selection())
    assert frame["epoch"].tolist() == [0, 1, 2]
    for metric in METRICS:
        points = {p.step: p.value for p in store.get_metric_history(run.info.run_id, metric)}
        logged = frame.set_index("epoch")[metric].dropna().to_dict()
        assert logged == points
    first = frame.iloc[0]
    assert (first["learning_rate"], first["batch_size"], first["parameters"]) == (0.1, 64, 468_874)
    assert first["git_commit"] == run.data.tags["git_commit"]


def test_the_last_point_of_an_epoch_holds(store):
    run_id = add_training(store, points={"test_accuracy": [0.5]}, finished=False)
    for timestamp, value in ((3000, 0.3), (2000, 0.2)):
        store.log_metric(run_id, "test_accuracy", value, timestamp=timestamp, step=0)
    frame, _ = load_history(Selection(runs=run_id))
    assert frame[["epoch", "test_accuracy"]].values.tolist() == [[0, 0.3]]


@pytest.mark.parametrize("command", ["compare", "mlp_numpy", "plan lr_sweep", "cancel 1"])
def test_a_server_that_is_not_there_is_named_at_once(command, store, eml, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    result = eml(*command.split())
    assert result.returncode == 2
    assert result.stderr == "eml: the tracking server http://127.0.0.1:9 does not answer\n"


def test_every_way_to_read_points_gives_the_same(small_data, store, server, monkeypatch):
    address, folder = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "readers")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.MlflowClient().create_experiment("readers", folder.as_uri())
    train("lr_sweep", epochs=1, lrs="1,0.5,0.1,0.05,0.01", resume=False)
    frame, _ = load_history(Selection())
    run_ids = frame["run_id"].unique().tolist()

    def points(reader):
        return reader.points(run_ids, METRICS).sort_values(readers.COLUMNS, ignore_index=True)

    with monkeypatch.context() as patch:
        patch.setattr(readers.Reader, "_of_database", Mock(side_effect=AttributeError))
        expected = points(readers.Reader())
        pd.testing.assert_frame_equal(load_history(Selection())[0], frame)
    assert len(expected) == 5 * (2 * (len(METRICS) - 2) - 3)  # no validation
    database = readers.Reader()
    mlflow.set_tracking_uri(address)
    for reader in (database, readers.Reader()):
        with monkeypatch.context() as patch:
            patch.delattr(mlflow.MlflowClient, "get_metric_history")  # of the public way alone
            pd.testing.assert_frame_equal(points(reader), expected)
    # Without the endpoint for many runs, or if its answer may have been cut off: one by one.
    for name, value in (("BULK_ENDPOINT", "/ajax-api/2.0/nowhere"), ("POINTS_IN_A_REQUEST", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(readers, name, value)
            pd.testing.assert_frame_equal(load_history(Selection())[0], frame)


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_compare_keeps_its_result_as_a_run_of_its_own(small_data, store, eml, tmp_path):
    train("lr_sweep", epochs=1)
    sources = [run.info.run_id for run in stored_runs(store)[1:]]
    program = "import sys; from eml.cli import main; main(); print('torch' in sys.modules)"
    arguments = ["compare", "--output", str(tmp_path / "out")]
    result = call([sys.executable, "-c", program, *arguments])
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "False"
    compared = stored_runs(store)[-1]
    assert compared.data.tags["recipe"] == "compare"
    assert compared.info.status == "FINISHED"
    written = files(tmp_path / "out")
    tables = {
        "compare.html",
        "history.csv",
        "runs.txt",
        "summary.csv",
        "summary.md",
        "verdicts.csv",
    }
    clocks = ("epochs", "train_seconds", "wall_seconds")
    over = [f"test_{kind}_over_{x}" for kind in ("accuracy", "loss") for x in clocks]
    figures = {f"{name}.{kind}" for name in (*over, "sensitivity") for kind in ("png", "svg")}
    assert written - tables == figures
    logged = Path(store.download_artifacts(compared.info.run_id, ""))
    assert (logged / "runs.txt").read_text().split() == sources
    assert files(logged) == written - {"history.csv"} | {"packages.txt"}
    copied = pd.read_csv(tmp_path / "out" / "history.csv")
    for name, values in load_history(Selection())[0][["run_id", "test_loss", "epoch"]].items():
        assert copied[name].tolist() == values.tolist()
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert table["learning_rate"].tolist() == [0.001, 0.01, 0.05, 0.1, 0.5, 1]
    # A comparison is not what the next one compares.
    assert set(selected()) == set(sources)


def test_an_output_folder_is_made_at_once_or_refused(store, tmp_path):
    add_training(store)
    before = len(stored_runs(store))
    (tmp_path / "file").write_text("")
    for output, reason in (
        (tmp_path / "file", "File exists, give a new folder"),
        (tmp_path / "file" / "below", "Not a directory, give a new folder"),
        (tmp_path, "File exists, give a new folder"),
    ):
        with pytest.raises(UserError, match=f"output={output}: {reason}"):
            compare(Selection(output=str(output)))
    assert len(stored_runs(store)) == before


def test_trainings_of_one_recipe_are_not_mixed(store):
    made = {
        (epochs, subset): add_training(store, epochs=epochs, subset=subset)
        for epochs, subset in ((30, 0), (30, 100), (2, 0))
    }
    frame, lines = load_history(Selection(recipe="mlp_torch"))
    assert set(frame["run_id"]) == {made[2, 0]}
    assert lines == [f"passed over, of other epochs or images: {made[30, 0]}, {made[30, 100]}"]
