"""A tracking server that is away: what is said, what is waited for, and that nothing is lost."""

import os
import re
import signal
import subprocess
import time
import uuid
from contextlib import ExitStack

import mlflow
import pytest

from eml.models.numpy_mlp import NumpyLearner
from eml.tracking import calls, log, runs
from eml.tracking.calls import StoreAwayError, StoreError
from eml.tracking.models import load_model
from eml.training.loop import EpochRecord
from support.commands import call, eml_command, train
from support.interrupted import assert_whole, in_place_of_logging
from support.servers import Proxy

PASSWORD = "geh/eim"
SAID = {
    "drop": "connections dropped",
    "hang": "no answer",
    "fail": "answers with 500",
    "busy": "answers with 429",
    "reset": "connections reset",
}
SMALL = ["mlp_numpy", "--subset", "100", "--batch_size", "10"]


@pytest.fixture
def proxy(server, environment, tmp_path, monkeypatch):
    """Between eml, also as a subprocess, and the server, where it has an experiment of its own."""
    address, _ = server
    with Proxy(address) as proxy:
        name = uuid.uuid4().hex
        mlflow.MlflowClient(address).create_experiment(name)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        mlflow.set_tracking_uri(proxy.address)
        yield proxy
        mlflow.set_tracking_uri(None)


@pytest.fixture
def client(server, proxy) -> mlflow.MlflowClient:
    """Of the server, past the proxy."""
    return mlflow.MlflowClient(server[0])


def served(client) -> list:
    """The runs of the test's experiment, oldest first."""
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def record_of(epoch: int) -> EpochRecord:
    return EpochRecord(epoch, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, test_loss=1.0, test_accuracy=0.5)


@pytest.mark.parametrize(
    "behave", ["drop", *(pytest.param(b, marks=pytest.mark.slow) for b in SAID if b != "drop")]
)
def test_a_training_goes_on_without_the_server_and_delivers_later(
    behave, small_data, proxy, client, monkeypatch, capsys, fault
):
    """Away from the second epoch to the sixth; each epoch has its own time."""
    fault(f"server during a training: {SAID[behave]}")
    monkeypatch.setattr(log, "SHARE", 1e9)  # try again after each epoch
    ends, held = {}, {}

    def away(record, log):
        proxy.behave = behave if 2 <= record.epoch < 6 else "pass"
        ends[record.epoch] = time.time() * 1000
        log()
        if 1 <= record.epoch <= 6:
            (run,) = served(client)
            held[record.epoch] = len(client.get_metric_history(run.info.run_id, "test_loss"))

    with monkeypatch.context() as patch:
        in_place_of_logging(patch, away)
        train("mlp_numpy", epochs=8)
    assert held == {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 7}
    (one,) = served(client)
    assert one.info.status == "FINISHED"
    assert_whole(client, one.info.run_id, 8)
    points = client.get_metric_history(one.info.run_id, "test_loss")
    assert all(abs(point.timestamp - ends[point.step]) < 500 for point in points)
    lines = [line for line in capsys.readouterr().out.splitlines() if "answer" in line]
    assert lines == [
        f"the tracking server {proxy.address} does not answer: the training goes on, and its "
        "epochs are kept",
        "the store answers again: epochs delivered: 5",
    ]


def test_tries_that_fail_take_a_small_share_of_the_time(small_data, proxy, client, monkeypatch):
    """A server that hangs is asked once, for one second; then not before 200 seconds."""
    now, asked = [0.0], []

    def hangs(records, seconds):
        assert seconds == log.SECONDS_IN_TRAINING
        asked.append([record.epoch for record in records])
        now[0] += log.SECONDS_IN_TRAINING
        raise StoreAwayError("away")

    monkeypatch.setattr(log, "log_records", hangs)
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    with runs.run("r", "d", {}) as run_id:
        offered = log.Delivery(run_id, [])
        for epoch in range(500):
            now[0] += 1
            offered.offer(record_of(epoch))
    assert [epochs[-1] for epochs in asked] == [0, 200, 400]
    assert len(asked) * log.SECONDS_IN_TRAINING < 0.01 * now[0]


@pytest.mark.slow
@pytest.mark.parametrize("behave", ["drop", "hang", "fail"])
def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(behave, proxy, client):
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = eml_command(*SMALL, "--epochs", "60")
    with subprocess.Popen(command, **output) as process, ExitStack() as at_the_end:
        at_the_end.callback(process.kill)
        assert any(re.match(r"epoch +2/", line) for line in process.stdout)
        proxy.behave = behave
        proxy.refused.wait()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=25)[0]  # the closing requests have a few seconds each
        assert process.returncode == 130
    (one,) = served(client)
    assert one.info.status == "RUNNING"
    assert f"run {one.info.run_id} is not closed: the tracking server" in rest
    assert re.search(r"\nstopped after epoch \d+; the same command goes on\n$", rest)
    proxy.behave = "pass"
    result = call(command)
    assert result.returncode == 0, result.stderr
    assert f"run {one.info.run_id}: its process is gone, so it is KILLED now" in result.stdout
    (one,) = served(client)
    assert one.info.status == "FINISHED"
    assert_whole(client, one.info.run_id, 60)


def test_a_server_that_stays_away_costs_nothing_but_a_second_command(
    small_data, proxy, client, monkeypatch, capsys
):
    monkeypatch.setattr(calls, "PATIENCE", 0.1)

    def away(record, log):
        if record.epoch == 2:
            proxy.behave = "drop"
        log()

    with monkeypatch.context() as patch:
        in_place_of_logging(patch, away)
        with pytest.raises(StoreAwayError) as raised:
            train("mlp_numpy", epochs=4)
    assert re.fullmatch(
        r"the tracking server \S+ does not answer: the training is kept up to epoch 4 in /\S+; the "
        "same command delivers it when the store answers",
        str(raised.value),
    )
    assert raised.value.exit_code == 1
    assert mlflow.active_run() is None
    (one,) = served(client)
    assert one.info.status == "RUNNING"
    proxy.behave = "pass"
    monkeypatch.setattr(NumpyLearner, "train_epoch", lambda *_: pytest.fail("trained again"))
    train("mlp_numpy", epochs=4)
    (one,) = served(client)
    assert one.info.status == "FINISHED"
    assert_whole(client, one.info.run_id, 4)
    assert one.outputs.model_outputs
    assert load_model(one.info.run_id).weights


@pytest.mark.slow
def test_a_server_that_stays_away_ends_a_sweep_at_its_first_training(
    small_data, proxy, client, monkeypatch
):
    monkeypatch.setattr(calls, "PATIENCE", 0.1)
    options = {"epochs": 1, "lrs": "1,0.5,0.1,0.05,0.01"}
    with monkeypatch.context() as patch:
        patch.setattr(log, "log_result", lambda _: setattr(proxy, "behave", "drop"))
        with pytest.raises(StoreAwayError):
            train("lr_sweep", **options)
    assert [one.info.status for one in served(client)] == ["RUNNING"] * 2
    proxy.behave = "pass"
    train("lr_sweep", **options)
    assert [one.info.status for one in served(client)] == ["FINISHED"] * 6


def test_a_run_whose_making_was_not_answered_has_no_twin(small_data, proxy, client, fault):
    fault("answer lost when a run is made")
    proxy.behave = "lose"
    train("mlp_numpy", epochs=1)
    assert proxy.refused.is_set()
    (one,) = served(client)
    assert one.info.status == "FINISHED"
    assert_whole(client, one.info.run_id, 1)


def test_what_the_server_refuses_is_not_waited_for(proxy):
    with pytest.raises(StoreError, match=r"the tracking server .*: RESOURCE_DOES_NOT_EXIST") as one:
        calls.store_call(lambda: mlflow.get_run("0" * 32))()
    assert not isinstance(one.value, StoreAwayError)


@pytest.mark.slow
def test_no_output_holds_the_password(small_data, server, proxy, client, monkeypatch):
    secret = proxy.address.replace("//", f"//me:{PASSWORD.replace('/', '%2F')}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    train_it = ["mlp_numpy", "--epochs", "1", "--subset", "100"]
    outputs = []

    def output(code: int, *arguments: str) -> None:
        result = call(eml_command(*arguments))
        assert result.returncode == code, result.stderr
        outputs.append(result.stdout + result.stderr)

    output(0, *train_it)
    output(0, "compare")
    output(0, "plan", "lr_sweep", "--epochs", "1", "--subset", "100")
    output(2, "cancel", "abc")
    output(2, "compare", "--recipe", "lr_sweep")
    output(0, "gradients")
    artifacts = server[1] / "artifacts"
    artifacts.rename(server[1] / "moved")
    artifacts.touch()  # nothing can be written: the server answers with 500
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "PATIENCE", 0.1)
        mlflow.set_tracking_uri(secret)
        with pytest.raises(StoreAwayError) as raised:
            train("mlp_numpy", epochs=1, seed=2)
    outputs.append(str(raised.value))
    artifacts.unlink()
    (server[1] / "moved").rename(artifacts)
    proxy.behave = "drop"
    output(2, *train_it)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:{PASSWORD}@127.0.0.1:9/x")
    output(2, *train_it)
    for text in outputs:
        assert text
        assert "geh" not in text
    for one in served(client):
        assert "geh" not in repr(one.to_dictionary()), one.info.run_name
    assert [one.info.status for one in served(client)][-1] == "FAILED"


def test_a_database_that_does_not_answer_is_named_at_once(store, eml, monkeypatch):
    uri = f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:9/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    result = eml("compare")
    assert result.returncode == 2
    assert re.fullmatch(
        "eml: the store postgresql.psycopg://127.0.0.1:9/x: .*refused.*\n", result.stderr
    ), result.stderr
    assert PASSWORD not in result.stderr
