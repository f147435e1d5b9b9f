"""What is logged is what is read back, and every way to end a run leaves its status."""

import dataclasses
import os
import re
import signal

import mlflow
import numpy as np
import pytest
from mlflow.entities import ViewType
from sqlalchemy import event
from sqlalchemy.engine import Engine

from eml.errors import UserError
from eml.machine import GIVEN_RUN, SIGNALS, Stopped, environment, raise_on_signals
from eml.tracking import calls, log, models, runs
from eml.training.loop import EpochRecord, TrainingLoop, load_for, make_learner
from support import interrupted
from support.commands import config_of, configs_of, stored_runs, train

CLOCKS = ("train_seconds", "eval_seconds", "wall_seconds")


def record(epoch: int, accuracy: float) -> EpochRecord:
    seconds = float(epoch)
    return EpochRecord(
        epoch, 0.5, 0.8, seconds, 0.5, seconds, 0.1, 100.0, test_loss=0.6, test_accuracy=accuracy
    )


def test_all_of_a_training_is_logged(small_data, store, capsys):
    options = {"optimizer": "adam", "epochs": 2, "device": "cpu"}
    config = config_of("cifar_cnn", **options)
    train("cifar_cnn", **options)
    (run,) = stored_runs(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cnn adam lr=0.001 seed=1 cifar_cnn epochs=2"
    for field, value in dataclasses.asdict(config).items():
        assert run.data.params[field] == str(value)
    assert run.data.params["scaling_mean"] == "0.0"
    assert run.data.params["train_images"] == "300"
    tags = run.data.tags
    assert tags["recipe"] == "cifar_cnn"
    assert "Question: how does the test accuracy" in tags["mlflow.note.content"]
    for tag in ("python", "torch", "numpy", "mlflow", "hardware", "threads", "dataset_digest"):
        assert tags[tag]
    assert len(tags["git_commit"]) == 40
    assert tags["git_dirty"] in ("true", "false")
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("cifar10", tags["dataset_digest"])

    names = (*interrupted.SCORES, *CLOCKS)
    histories = {name: store.get_metric_history(run.info.run_id, name) for name in names}
    for history in histories.values():
        assert [point.step for point in history] == [0, 1, 2]
    images_per_second = store.get_metric_history(run.info.run_id, "images_per_second")
    assert [point.step for point in images_per_second] == [1, 2]
    # What is logged is what was trained, to the last digit.
    trained = list(TrainingLoop(config, load_for(config)))
    for metric in interrupted.SCORES:
        logged = [point.value for point in histories[metric]]
        assert logged == [getattr(record, metric) for record in trained]
    accuracies = [point.value for point in histories["test_accuracy"]]
    assert run.data.metrics["final_test_accuracy"] == accuracies[-1]
    assert run.data.metrics["best_test_accuracy"] == max(accuracies)
    # The lines on the terminal are the same numbers.
    output = capsys.readouterr().out
    assert f"test loss {histories['test_loss'][-1].value:.4f}" in output


def test_values_typed_for_mlflow_run_are_left_and_others_refused(small_data, store, monkeypatch):
    for epochs in (3, 1):
        # As `mlflow run` does before it starts eml.
        run = store.create_run(store.get_experiment_by_name("test").experiment_id)
        for name, value in {"momentum": "0.90", "epochs": "01", "lr": "1e-1"}.items():
            store.log_param(run.info.run_id, name, value)
        monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
        if epochs == 3:
            with pytest.raises(UserError, match="the run given holds epochs=01, not 3"):
                train("mlp_torch", epochs=3, device="cpu")
        else:
            train("mlp_torch", optimizer="momentum", momentum="0.90", epochs=1, device="cpu")
    params = store.get_run(run.info.run_id).data.params
    assert (params["momentum"], params["epochs"], params["lr"]) == ("0.90", "01", "1e-1")
    assert params["learning_rate"] == "0.1"


@pytest.mark.filterwarnings("ignore:overflow")
def test_diverged_run(small_data, store):
    options = {"lr": "1e30", "activation": "relu", "epochs": 4, "device": "cpu"}
    train("mlp_torch", **options)
    (run,) = stored_runs(store)
    assert run.info.status == "FINISHED"
    epoch = int(run.data.tags["diverged"].removeprefix("epoch "))
    last = store.get_metric_history(run.info.run_id, "test_loss")[-1]
    assert last.step == epoch
    assert np.isnan(last.value)
    assert "final_test_accuracy" not in run.data.metrics
    names = [artifact.path for artifact in store.list_artifacts(run.info.run_id, "model")]
    assert names == ["model/config.json"]


def test_best_is_the_first_of_the_highest(store):
    with runs.run("r", "d", {}) as run_id:
        log.log_result([record(0, 0.1), record(1, 0.9), record(2, 0.9), record(3, 0.8)])
    metrics = store.get_run(run_id).data.metrics
    assert metrics == {
        "best_test_accuracy": 0.9,
        "best_epoch": 1,
        "final_test_accuracy": 0.8,
    }


def test_an_exception_is_failed_with_its_message(store):
    def fails():
        with runs.run("r", "d", {}):
            log.log_records([record(0, 0.1)])
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        fails()
    (run,) = stored_runs(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "ZeroDivisionError: division by zero"
    assert run.data.metrics["test_accuracy"] == 0.1
    assert mlflow.active_run() is None


@pytest.fixture
def stoppable():
    """Signals raise Stopped, as in the `eml` command."""
    former = {number: signal.getsignal(number) for number in SIGNALS}
    raise_on_signals()
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("statement", ["INSERT INTO runs", "INSERT INTO metrics"])
def test_a_signal_in_the_middle_of_a_write_lets_it_end(statement, store, stoppable):
    def interrupt(_connection, _cursor, executed, *_):
        if executed.startswith(statement):
            os.kill(os.getpid(), signal.SIGTERM)

    event.listen(Engine, "after_cursor_execute", interrupt)
    try:
        with pytest.raises(Stopped), runs.run("r", "d", {}):
            log.log_records([record(0, 0.1)])
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    (run,) = stored_runs(store)
    assert run.info.status == "KILLED"
    assert run.data.tags["stopped"].startswith("SIGTERM at 20")
    assert statement != "INSERT INTO metrics" or run.data.metrics["wall_seconds"] == 0


@pytest.mark.parametrize(
    ("typed", "expected"), [("calm-fox-12", "eml's"), ("my own name", "my own name")]
)
def test_a_name_that_the_user_gave_is_kept(typed, expected, store, monkeypatch):
    run = store.create_run(store.get_experiment_by_name("test").experiment_id, run_name=typed)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    with runs.run("eml's", "d", {}):
        pass
    assert store.get_run(run.info.run_id).info.run_name == expected


BEGIN_A_RUN = ["mlp_numpy", "lr_sweep", "gradients", "compare", "sheet2"]


@pytest.mark.parametrize("kind", ["FINISHED", "KILLED", "ours", "a point", "deleted", "none"])
def test_a_run_that_mlflow_run_has_not_just_made_stays_as_it_is(
    kind, small_data, store, eml, monkeypatch
):
    train("mlp_numpy", epochs=1)
    (trained,) = stored_runs(store)
    tags = {"recipe": "mlp_numpy"} if kind == "ours" else {}
    stale = store.create_run(trained.info.experiment_id, tags=tags).info.run_id
    if kind.isupper():
        store.set_terminated(stale, kind)
    elif kind == "a point":
        store.log_metric(stale, "loss", 1.0)
    elif kind == "deleted":
        store.delete_run(stale)
    monkeypatch.setenv(GIVEN_RUN, "0" * 32 if kind == "none" else stale)
    before = store.get_run(stale).to_dictionary()
    for command in [*BEGIN_A_RUN, "mlp_numpy --epocs 1", "cancel abc"]:
        result = eml(*command.split())
        assert result.returncode == 2, command
        assert store.get_run(stale).to_dictionary() == before, command
        if command in BEGIN_A_RUN:
            assert re.fullmatch("eml: MLFLOW_RUN_ID names .*: unset it\n", result.stderr)
    assert eml("plan", "mlp_numpy", "--epochs", "1").returncode == 0
    assert len(store.search_runs([trained.info.experiment_id], run_view_type=ViewType.ALL)) == 2


def test_a_run_that_was_given_can_be_set_aside(store, monkeypatch):
    monkeypatch.setenv(GIVEN_RUN, "a")
    with environment({GIVEN_RUN: ""}), runs.run("r", "d", {}) as run_id:
        assert run_id != "a"
    assert os.environ[GIVEN_RUN] == "a"


def logged_models(store, run) -> list:
    return store.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )


def test_the_final_weights_are_a_model_that_scores_what_was_logged(small_data, store):
    train("mlp_numpy", epochs=2)
    (run,) = stored_runs(store)
    (model,) = logged_models(store, run)
    names = [file.path for file in store.list_logged_model_artifacts(model.model_id)]
    assert names == ["weights.safetensors"]
    assert (model.name, model.tags["epoch"]) == ("mlp_numpy_sgd_1e-01_seed1", "2")
    stored = models.load_model(run.info.run_id)
    assert [stored.config] == configs_of("mlp_numpy", epochs=2)
    learner = make_learner(stored.config, load_for(stored.config))
    learner.load_state(stored.weights)
    score = learner.evaluate("test")
    logged = store.get_metric_history(run.info.run_id, "test_loss")
    assert (score.loss, score.accuracy) == (logged[2].value, stored.accuracy)


def test_the_final_model_of_a_run_is_not_the_best_one_of_earlier_versions(small_data, store):
    train("mlp_numpy", epochs=1)
    (run,) = stored_runs(store)
    tags = {"epoch": "0", "final": "false", "best": "true"}
    store.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id, tags=tags)
    assert models.load_model(run.info.run_id).accuracy == run.data.metrics["final_test_accuracy"]


def test_a_retry_makes_no_second_model(small_data, store, monkeypatch):
    """The answer to a request is lost: the store has what was asked for."""
    logged = models.log_model.__wrapped__
    monkeypatch.setattr(models, "log_model", lambda *values: (logged(*values), logged(*values)))
    train("mlp_numpy", epochs=1)
    (run,) = stored_runs(store)
    assert len(logged_models(store, run)) == len(run.outputs.model_outputs) == 1


def test_a_lock_that_passes_does_not_leave_a_run_open(store, monkeypatch):
    monkeypatch.setattr(calls, "PAUSES", (0.0, 0.0))
    end = mlflow.MlflowClient.set_terminated
    refused = []

    def locked_once(client, *arguments, **options):
        if not refused:
            refused.append(arguments)
            raise mlflow.MlflowException("database is locked")
        end(client, *arguments, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", locked_once)
    with runs.run("r", "d", {}) as run_id:
        pass
    assert refused
    assert store.get_run(run_id).info.status == "FINISHED"
    assert mlflow.active_run() is None


def test_system_metrics_are_logged_where_they_are_wanted(small_data, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    train("mlp_numpy", epochs=3)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    train("mlp_numpy", epochs=3, seed=2)
    without, with_them = stored_runs(store)
    assert not [name for name in without.data.metrics if name.startswith("system/")]
    assert "system/cpu_utilization_percentage" in with_them.data.metrics
    assert [run.data.tags["system_metrics"] for run in (without, with_them)] == ["false", "true"]


def test_a_signal_before_the_training_began_ends_the_run_that_mlflow_run_made(store):
    run = store.create_run(store.get_experiment_by_name("test").experiment_id)
    runs.stop_run(run.info.run_id, "SIGINT", ["RUNNING"])
    ended = store.get_run(run.info.run_id)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["stopped"].startswith("SIGINT at 20")
    runs.stop_run(run.info.run_id, "SIGTERM", ["RUNNING"])
    assert store.get_run(run.info.run_id).data.tags == ended.data.tags


def test_weights_that_are_not_there_are_named(store):
    with runs.run("r", "d", {}) as run_id:
        pass
    for missing, message in (
        ("abc", "no run abc in the store sqlite"),
        (run_id, "holds no finished training"),
    ):
        with pytest.raises(UserError, match=message):
            models.load_model(missing)
