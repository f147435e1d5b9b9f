"""Which runs are selected, and that every way to read them gives the same frame."""

import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from eml.analysis.comparison import Comparison
from eml.analysis.options import CompareOptions, Selection
from eml.analysis.summary import summary
from eml.errors import UserError
from eml.tracking import history, readers
from eml.tracking.compare import compare
from eml.tracking.history import METRICS, load_history
from eml.tracking.publish import make_output
from eml.tracking.selection import SelectionError
from support.commands import add_training, call, eml_command, stored_runs, train
from support.servers import mlflow_server


def train_mlp(**options) -> None:
    train("mlp_torch", **{"epochs": 1, "device": "cpu"} | options)


def seeds_of(selection: Selection) -> list[int]:
    frame, _ = load_history(selection)
    return frame.drop_duplicates("run_id")["seed"].tolist()


def test_the_newest_group_is_taken(small_data, store):
    train_mlp(seed=1)
    train("lr_sweep", epochs=1)
    frame, left_out = load_history(Selection())
    assert len(frame) == 12
    assert set(frame["recipe"]) == {"mlp_numpy"}
    assert left_out == []
    train_mlp(seed=2)
    assert seeds_of(Selection()) == [1, 2]
    assert len(load_history(Selection(recipe="lr_sweep"))[0]) == 12


def test_what_a_group_leaves_out_is_said(small_data, store):
    train_mlp(seed=1)
    train_mlp(seed=1)
    older, newer = (run.info.run_id for run in stored_runs(store))
    unfinished = add_training(store, seed=3, points={"test_accuracy": [0.5]}, finished=False)
    frame, left_out = load_history(Selection(recipe="mlp_torch"))
    assert set(frame["run_id"]) == {newer, unfinished}
    assert left_out == [f"left out, run again since with the same Config: {older}"]
    # Its status is in the frame, and the summary does not count it.
    assert frame.drop_duplicates("run_id")["status"].tolist() == ["FINISHED", "RUNNING"]
    assert sum(row.complete for row in summary(Comparison(frame))) == 1
    # Asked for by id the older one is there.
    assert set(load_history(Selection(runs=older))[0]["run_id"]) == {older}


def test_a_finished_run_is_taken_before_a_newer_one_that_is_not(store):
    finished, stopped = add_training(store), add_training(store, finished=False)
    frame, left_out = load_history(Selection(runs=",".join([finished, stopped])))
    assert set(frame["run_id"]) == {finished}
    assert left_out == [f"left out, not finished, run again with the same Config: {stopped}"]


def test_a_tag_never_takes_the_place_of_what_was_logged(store):
    tags = {"learning_rate": "9", "epoch": "x", "test_accuracy": "1", "run_id": "y"}
    run_id = add_training(store, tags=tags, points={"test_accuracy": [0.5]})
    frame, _ = load_history(Selection(runs=run_id))
    (row,) = frame.to_dict("records")
    assert (row["learning_rate"], row["epoch"], row["test_accuracy"]) == (0.1, 0, 0.5)
    assert row["run_id"] == run_id


def test_a_group_whose_runs_were_deleted_is_passed_over(small_data, store):
    train_mlp()
    train("lr_sweep", epochs=1)
    trained, _, *children = (run.info.run_id for run in stored_runs(store))
    for child in children:
        store.delete_run(child)
    assert set(load_history(Selection())[0]["run_id"]) == {trained}


def test_runs_by_id_parent_and_filter(small_data, store):
    train("lr_sweep", epochs=1)
    parent, *children = (run.info.run_id for run in stored_runs(store))
    for selection in (Selection(parent=parent), Selection(runs=parent)):
        assert load_history(selection)[0]["run_id"].unique().tolist() == children
    frame, _ = load_history(Selection(runs=",".join([children[2], children[0]])))
    assert frame["run_id"].unique().tolist() == [children[2], children[0]]
    frame, _ = load_history(Selection(filter="params.learning_rate = '0.1'"))
    assert frame["run_id"].unique().tolist() == [children[2]]
    store.create_experiment("other")
    with pytest.raises(SelectionError, match="no finished training"):
        load_history(Selection(experiment="other"))


def test_the_frame_is_what_was_logged(small_data, store):
    train_mlp(epochs=2)
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
    run_id = add_training(store, points={"test_accuracy": [0.5]})
    for timestamp, value in ((3000, 0.3), (2000, 0.2)):
        store.log_metric(run_id, "test_accuracy", value, timestamp=timestamp, step=0)
    frame, _ = load_history(Selection(runs=run_id))
    assert frame[["epoch", "test_accuracy"]].values.tolist() == [[0, 0.3]]


@pytest.mark.parametrize("command", ["compare", "mlp_numpy", "plan lr_sweep", "cancel 1"])
def test_a_server_that_is_not_there_is_named_at_once(command, store, environment, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = call(eml_command(*command.split()))
    assert result.returncode == 2
    assert result.stderr == "eml: the tracking server http://127.0.0.1:9 does not answer\n"


@pytest.fixture
def server(store, tmp_path):
    """`mlflow server` on the test's store; its address."""
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "served") as address:
        yield address


def test_every_reader_gives_the_same(small_data, store, server, monkeypatch):
    train("lr_sweep", epochs=1)
    run_ids = [run.info.run_id for run in stored_runs(store)]
    database = readers.reader()
    mlflow.set_tracking_uri(server)
    served = readers.reader()
    public = readers.ClientReader(mlflow.MlflowClient())
    assert [type(r).__name__ for r in (database, served)] == ["DatabaseReader", "ServerReader"]
    experiment = store.get_experiment_by_name("test").experiment_id

    assert served._request(run_ids, "test_loss")

    def read(reader):
        points = reader.points(run_ids, METRICS).sort_values(readers.COLUMNS)
        found = reader.find([experiment], {"recipe": "mlp_numpy"})
        return points.reset_index(drop=True), found, reader.get(run_ids)

    expected = read(public)
    assert len(expected[0]) == 6 * (2 * (len(METRICS) - 2) - 3)  # no validation
    assert len(expected[1]) == 6
    for reader in (database, served):
        points, found, got = read(reader)
        pd.testing.assert_frame_equal(points, expected[0])
        assert (found, got) == expected[1:]


def test_a_server_without_the_bulk_endpoint_is_read_one_by_one(
    small_data, store, server, monkeypatch
):
    train_mlp()
    mlflow.set_tracking_uri(server)
    expected, _ = load_history(Selection())
    # Nor is an answer trusted that may have been cut off.
    for name, value in (("BULK_ENDPOINT", "/ajax-api/2.0/nowhere"), ("POINTS_IN_A_REQUEST", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(readers, name, value)
            pd.testing.assert_frame_equal(load_history(Selection())[0], expected)


def test_a_database_whose_tables_are_not_known_is_read_by_the_client(store, monkeypatch):
    def missing(*_):
        raise AttributeError

    monkeypatch.setattr(readers.DatabaseReader, "__init__", missing)
    assert type(readers.reader()) is readers.ClientReader
    run_id = add_training(store, points={"test_accuracy": [0.5]})
    assert history.load_history(Selection(runs=run_id))[0]["test_accuracy"].tolist() == [0.5]


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_compare_keeps_its_result_as_a_run_of_its_own(small_data, store, eml, tmp_path):
    train("lr_sweep", epochs=1)
    sources = [run.info.run_id for run in stored_runs(store)[1:]]
    program = "import sys; from eml.cli import main; main(); print('torch' in sys.modules)"
    arguments = ["compare", "--output", str(tmp_path / "out"), "--target", "0.2,0.99"]
    result = call([sys.executable, "-c", program, *arguments, "--x", "epoch"])
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "False"
    compared = stored_runs(store)[-1]
    assert compared.data.tags["recipe"] == "compare"
    assert compared.data.tags["source_runs_1"].split(",") == sources
    assert compared.info.status == "FINISHED"
    written = files(tmp_path / "out")
    assert written == {
        "compare.html",
        "history.csv",
        "summary.csv",
        "summary.md",
        "verdicts.csv",
    } | {
        f"{name}.{kind}"
        for name in ("test_accuracy_over_epochs", "test_loss_over_epochs", "sensitivity")
        for kind in ("png", "svg", "pdf")
    }
    logged = Path(store.download_artifacts(compared.info.run_id, ""))
    assert files(logged) - {"uncommitted.diff"} == written - {"history.csv"}
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert table["learning_rate"].tolist() == [0.001, 0.01, 0.05, 0.1, 0.5, 1]
    assert "not reached in 1" in result.stdout
    # A comparison is not what the next one compares.
    assert set(load_history(Selection())[0]["run_id"]) == set(sources)


def test_all_plots_have_a_folder_each(small_data, store, eml, tmp_path):
    train("lr_sweep", epochs=1)
    result = eml("compare", "--plot", "all", "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "cpu_vs_gpu: no finished training" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "lr_sweep",
        "compare.html",
    }


def test_strict_refuses_what_differs_in_more(small_data, store, eml):
    train_mlp(seed=1)
    train_mlp(seed=1, batch_size=32, lr="0.2")
    before = len(stored_runs(store))
    result = eml("compare", "--strict", "true")
    assert result.returncode == 2
    assert "strict: these runs differ in more than what is compared: batch size: " in result.stderr
    assert len(stored_runs(store)) == before
    assert eml("compare").returncode == 0


def test_an_output_folder_is_made_at_once_or_refused(store, tmp_path, monkeypatch):
    add_training(store)
    before = len(stored_runs(store))
    (tmp_path / "file").write_text("")
    for output, reason in (
        (tmp_path / "file", "File exists, give a folder"),
        (tmp_path / "file" / "below", "Not a directory, give a folder"),
        (tmp_path, "the folder holds other files, give a new folder"),
    ):
        with pytest.raises(UserError, match=f"output={output}: {reason}"):
            compare(CompareOptions(output=str(output)))
    monkeypatch.setenv("MLFLOW_RUN_ID", "a")  # as `mlflow run` does, which changes the directory
    with pytest.raises(UserError, match="output=relative: give an absolute path"):
        make_output("relative")
    assert len(stored_runs(store)) == before


def test_what_meets_the_sheet_is_preferred_and_the_rest_is_named(store):
    """A plot of an exercise is of 30 epochs and all images, although a small try came later."""

    def sweep(epochs: int, subset: int) -> str:
        parent = store.create_run("1", tags={"recipe": "lr_sweep", "mlflow.runName": "lr_sweep"})
        for lr in (0.1, 0.01):
            tags = {"mlflow.parentRunId": parent.info.run_id}
            add_training(store, "mlp_numpy", tags=tags, lr=lr, epochs=epochs, subset=subset)
        store.set_terminated(parent.info.run_id)
        return parent.info.run_id

    whole, small = sweep(30, 0), sweep(2, 100)
    frame, lines = load_history(Selection(recipe="lr_sweep"), of_the_sheet=True)
    assert set(frame["epochs"]) == {30}
    assert lines == [
        f"passed over, a later try with other than 30 epochs or all images: lr_sweep, run {small}"
    ]
    assert set(load_history(Selection(recipe="lr_sweep"))[0]["epochs"]) == {2}  # the newest
    store.delete_run(whole)
    frame, lines = load_history(Selection(recipe="lr_sweep"), of_the_sheet=True)
    assert (set(frame["epochs"]), lines) == ({2}, [])


def test_trainings_of_one_recipe_are_not_mixed(store):
    made = {
        (epochs, subset): add_training(store, epochs=epochs, subset=subset)
        for epochs, subset in ((30, 0), (30, 100), (2, 0))
    }
    frame, lines = load_history(Selection(recipe="mlp_torch"), of_the_sheet=True)
    assert set(frame["run_id"]) == {made[30, 0]}
    assert len(lines) == 2  # both later tries
    frame, lines = load_history(Selection(recipe="mlp_torch"))
    assert set(frame["run_id"]) == {made[2, 0]}
    assert lines == [f"passed over, of other epochs or images: {made[30, 0]}, {made[30, 100]}"]
