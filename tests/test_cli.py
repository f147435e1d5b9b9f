"""The command line as its users meet it: messages, exit codes, signals. Real processes."""

import os
import re
import signal
import subprocess
from contextlib import contextmanager, suppress
from signal import SIGINT

import psutil
import pytest

from eml import load_history
from eml.machine import SIGNALS
from eml.tracking import find
from eml.tracking.models import load_model
from eml.training.loop import load_for, make_learner
from support.commands import add_training, call, eml_command, mlflow_command, stored_runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifar_cnn", "--optimizer", "addam"], "optimizer=addam: give one of sgd, "),
        (["cifar_cnn", "--epochs", "many"], "'many' is not a valid integer"),
        (["cifar_cnn", "--init", "template"], "no option --init for cifar_cnn: give --epochs"),
        (["mlp_numpy", "--check", "yes"], "check=yes: give one of false, true, only"),
        (["compare", "--experiment", "nix"], "experiment=nix: give one of test, Default"),
        (["compare", "--runs", "a", "--recipe", "main"], "recipe=main has no effect with runs=a: "),
        (["compare", "--runs", "abc"], "no run abc in sqlite:///"),
        (["compare", "--filter", "((("], "Invalid clause"),
        (["compare"], "no finished training of a recipe in sqlite:///.*: train first"),
        (["cifar_nn"], "No such command 'cifar_nn'.*Give one of main, mlp_numpy"),
        (["cancel"], "Missing argument 'RUN_ID'"),
        (["cancel", "abc"], "no run abc in the store"),
        (["plan", "cifar_cnn", "--device", "tpu"], "device=tpu: give one of auto, cpu"),
        (["cancel", "--all"], "no option --all for cancel: give --help"),
        # An option that has no effect is refused, whatever its value is.
        (["mlp_torch", "--momentum", "0.9"], "momentum=0.9 has no effect with optimizer=sgd: give"),
        (["mlp_numpy", "--stores", "a"], "stores=a has no effect with mlp_numpy"),
        (
            ["lr_sweep", "--stores", "a", "--resume", "false"],
            "stores=a has no .* resume=false",
        ),
        (["sheet2", "--device", "cpu"], "no option --device for sheet2: give --folder, --epochs"),
        (["handin", "check", "a.zip", "--file", "b"], "file has no effect with a ZIP"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, store, eml):
    result = eml(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(f"eml: .*{message}.*\n", result.stderr)
    assert stored_runs(store) == []


def test_a_folder_that_cannot_be_written_is_named(store, eml, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "file" / "checkpoints"))
    result = eml("mlp_numpy", "--epochs", "1")
    assert result.returncode == 2
    assert re.fullmatch("eml: no checkpoints can be kept in .*: Not a dir.*\n", result.stderr)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", "checkpoints")
    result = eml("mlp_numpy", "--epochs", "1")
    assert result.stderr == "eml: EML_CHECKPOINT_DIR=checkpoints: give an absolute path\n"
    assert stored_runs(store) == []


@pytest.mark.parametrize(("name", "command"), [((), "cifar_cnn"), (("plan",), "lr_sweep")])
def test_no_arguments_show_the_commands(name, command, eml):
    result = eml(*name)
    assert re.search(rf"^  {command} +\S", result.stdout, re.MULTILINE)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_version(eml):
    assert re.fullmatch(r"eml \d+\.\d+\.\d+\n", eml("--version").stdout)


@pytest.mark.slow
def test_mlflow_run_hands_over_options_that_may_have_no_effect(store, environment):
    """It logs all that MLproject declares before eml starts."""
    result = call(mlflow_command("mlp_torch", epochs=1, device="cpu"))
    assert result.returncode == 0, result.stderr
    (run,) = stored_runs(store)
    assert run.data.params["momentum"] == "auto"
    assert set(load_history("mlp_torch")["momentum"]) == {0.9}
    for refused in ({"momentum": 0.9}, {"optimizer": "sgd", "momentum": "x"}):
        result = call(mlflow_command("mlp_torch", **refused))
        assert result.returncode == 1
        assert re.search("eml: .* has no effect with ", result.stderr)
    assert call(mlflow_command("compare", recipe="mlp_torch")).returncode == 0


def test_eml_trains_and_the_weights_reproduce_the_accuracy(store, eml):
    result = eml("cifar_cnn", "--optimizer", "adam", "--epochs", "2")
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"^epoch \d/2 ", result.stdout, re.MULTILINE)) == 3
    (run,) = stored_runs(store)
    assert run.info.status == "FINISHED"
    accuracy = run.data.metrics["final_test_accuracy"]
    stored = load_model(run.info.run_id)
    learner = make_learner(stored.config, load_for(stored.config))
    learner.load_state(stored.weights)
    assert learner.evaluate("test").accuracy == pytest.approx(accuracy, abs=1e-3)


def test_one_is_no_plural(store, eml, png_only):
    add_training(store, name="mine")
    commands = ["compare"], ["plan", "mlp_numpy", "--epochs", "1"], ["mlp_numpy", "--epochs", "1"]
    text = "".join(eml(*command).stdout for command in commands)
    assert "| mine " in text  # a single training is not called "all runs"
    assert "1 epoch to do" in text
    assert not re.search(r"\b1 (epochs|threads|runs|trainings|jobs)\b", text)


@contextmanager
def training(command: list[str]):
    """The command as a process in a group of its own, in the middle of an epoch after the first."""
    # A shell starts background jobs with SIGINT ignored, nohup with SIGHUP; children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout:
                if re.search(r"epoch +1/", line):
                    break
            else:
                pytest.fail("the training did not get to epoch 1")
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def training_process(parent: psutil.Process) -> psutil.Process:
    (process,) = [
        p for p in parent.children(recursive=True) if "__main__.py" in " ".join(p.cmdline())
    ]
    return process


def assert_stopped(run, signal_name: str, status: set[str]):
    assert run.info.status in status
    assert re.match(f"{signal_name} at ", run.data.tags["stopped"])
    assert run.data.metrics["train_seconds"] > 0


ENDLESS = 10_000  # epochs: the signal comes in the middle
GOES_ON = re.compile(r"^stopped after epoch \d+; the same command goes on$", re.MULTILINE)


@pytest.mark.parametrize(
    "number", [SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in SIGNALS if n != SIGINT)]
)
def test_signal_to_eml(number, store, environment):
    with training(eml_command("mlp_torch", "--epochs", str(ENDLESS))) as process:
        process.send_signal(number)
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert GOES_ON.fullmatch(complaints.rstrip("\n"))
    (run,) = stored_runs(store)
    assert_stopped(run, number.name, {"KILLED"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_group"),
    [
        (signal.SIGINT, True),  # Ctrl-C on a terminal
        (signal.SIGKILL, False),
        (signal.SIGINT, False),
        (signal.SIGTERM, False),
    ],
)
def test_signal_to_mlflow_run(number, to_group, store, environment):
    with training(mlflow_command("mlp_torch", epochs=ENDLESS)) as process:
        trained = training_process(psutil.Process(process.pid))
        if to_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        # Until the last process that writes to it is gone.
        _, complaints = process.communicate(timeout=60)
        assert process.returncode != 0
        assert GOES_ON.search(complaints)
        trained.wait(60)
    (run,) = stored_runs(store)
    assert_stopped(run, "SIG(INT|TERM)", {"KILLED", "FAILED"})


IN_WORKERS = ["lr_sweep", "--epochs", str(ENDLESS), "--launcher", "local", "--jobs", "2"]


@pytest.mark.parametrize(
    "command",
    [
        eml_command("mlp_torch", "--epochs", str(ENDLESS)),
        pytest.param(mlflow_command("mlp_torch", epochs=ENDLESS), marks=pytest.mark.slow),
        pytest.param(eml_command(*IN_WORKERS), marks=pytest.mark.slow),
    ],
)
def test_closed_output_stops_as_ctrl_c_does(command, store, environment):
    """As of `| head -1`: the runs say why, and the same command goes on."""
    with training(command) as process:
        process.stdout.close()
        complaints = process.stderr.read()
        assert process.wait(60) == (1 if "mlflow" in command else 141)
        assert re.search("^stopped.*; the same command goes on$", complaints, re.MULTILINE)
        assert "Traceback" not in complaints
    top, *children = stored_runs(store)
    # MLflow itself makes FAILED of the run that it has made.
    assert top.info.status == ("FAILED" if "mlflow" in command else "KILLED")
    assert find.get(top.info.run_id).reason.startswith("stopped: output closed at ")
    for run in children:
        assert run.info.status == "KILLED"
        assert re.match("output closed at |SIGTERM at ", run.data.tags["stopped"])
