"""A user's own code in the store: its curve, its artifact, continued trainings, never executed."""

import hashlib
import math
import re
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import eml as public
from eml.errors import UserError
from eml.models import own_code
from eml.models.torch_networks import make_model
from eml.tracking.digests import training_digest
from eml.training import threads
from eml.training.checkpoints import Slot
from eml.training.loop import TrainingLoop, load_for
from support.commands import call, config_of, eml_command, train
from support.interrupted import SCORES, assert_whole, history_of, scores, stop_when
from support.own_code import STUDENTS, TRACE, plain, trainings

LRS = "1,0.5,0.1,0.05,0.01"


def test_a_right_network_has_the_curve_of_eml_s(small_data, store, eml, png_only):
    train("mlp_numpy", epochs=3)
    for file in ("layers.py", "plain.py"):
        train("mlp_numpy", epochs=3, code=str(STUDENTS / file))
    reference, *own = trainings(store)
    expected = history_of(store, reference.info.run_id)
    for run in own:
        points = history_of(store, run.info.run_id)
        for metric in SCORES:
            values = [[value for _, value in of[metric]] for of in (points, expected)]
            np.testing.assert_allclose(*values, rtol=1e-5)
        assert points["test_accuracy"] == expected["test_accuracy"]
    compared = eml("compare")
    assert compared.returncode == 0, compared.stderr
    curves = re.findall(r"^\| (.*?code.*?) +\|", compared.stdout, re.MULTILINE)
    shas = sorted(run.data.params["code_sha256"][:6] for run in own)
    assert sorted(curves) == ["eml's code", *(f"own code {sha256}" for sha256 in shas)]


def test_the_run_holds_what_ran(small_data, store, tmp_path):
    path = plain(tmp_path)
    train("mlp_numpy", epochs=1, code=path)
    (run,) = trainings(store)
    text = Path(path).read_bytes()
    assert run.data.params["code_sha256"] == hashlib.sha256(text).hexdigest()
    assert run.data.tags["code"] == path
    assert "central differences" in run.data.tags["code_check"]
    assert Path(store.download_artifacts(run.info.run_id, "code/own.py")).read_bytes() == text


@pytest.mark.parametrize("file", ["dropout.py", "batchnorm.py"])
def test_a_stopped_training_goes_on_bit_for_bit(
    file, small_data, store, monkeypatch, capsys, png_only
):
    """Layers have state and random numbers of their own; numbers of threads are tried first."""
    monkeypatch.setattr(threads, "threads_in_environment", lambda: 0)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(threads, "SLOW", math.inf)
    try_threads, tries = threads.Threads._one_is_faster, []
    # What is tried is not what is chosen: another number may sum in another order.
    faster = lambda self: bool(tries.append(try_threads(self)))  # noqa: E731
    monkeypatch.setattr(threads.Threads, "_one_is_faster", faster)
    options = {"epochs": 4, "subset": 100, "device": "cpu", "code": str(STUDENTS / file)}
    stop_when(monkeypatch, lambda r: r.epoch == 2, lambda: train("cifar_cnn", **options))
    config = config_of("cifar_cnn", **options)
    (stopped,) = trainings(store)
    kept = Slot(training_digest(config), stopped.data.tags["checkpoint"]).load()
    unbroken = TrainingLoop(config, load_for(config), code=options["code"])
    fresh = make_model(config, own_code.load(options["code"], config.code_sha256)).state_dict()
    # Warm-up and tries leave no trace.
    assert_equal(unbroken.learner.state(), {name: value.numpy() for name, value in fresh.items()})
    epochs = iter(unbroken)
    records = list(islice(epochs, 3))
    for name in SCORES:
        assert [getattr(r, name) for r in kept.records] == [getattr(r, name) for r in records]
    assert_equal(kept.state, unbroken.learner.training_state())
    records += epochs
    capsys.readouterr()
    train("cifar_cnn", **options)
    assert "goes on after epoch 2" in capsys.readouterr().out
    assert len(tries) == 3
    (run,) = trainings(store)
    assert_whole(store, run.info.run_id, 4)
    for name, points in scores(store, run.info.run_id).items():
        assert points == [(record.epoch, getattr(record, name)) for record in records]
    (model,) = run.outputs.model_outputs
    logged = Path("mlruns/models") / model.model_id / "artifacts/weights.safetensors"
    assert_equal(load_file(logged), unbroken.learner.state())


def assert_equal(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """To the bit."""
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


KILLED = """
import os, signal
right_forward, passes = CNN.forward, 0

def forward(self, x):
    global passes
    passes += self.training
    if self.training and passes == int(os.environ.get("KILLED_IN_PASS", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    return right_forward(self, x)

CNN.forward = forward
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_for_bit(store, environment, monkeypatch, tmp_path):
    path = tmp_path / "own.py"
    path.write_text((STUDENTS / "dropout.py").read_text() + KILLED)
    options = ("--epochs", "20", "--device", "cpu", "--code", str(path))
    monkeypatch.setenv("KILLED_IN_PASS", "60")  # of 5 in an epoch
    result = call(eml_command("cifar_cnn", *options))
    assert result.returncode == -signal.SIGKILL, result.stderr
    monkeypatch.delenv("KILLED_IN_PASS")
    result = call(eml_command("cifar_cnn", *options))
    epoch = re.search(r"goes on after epoch (\d+)", result.stdout)
    assert result.returncode == 0, result.stderr
    assert 1 < int(epoch[1]) < 20
    call(eml_command("cifar_cnn", *options, "--resume", "false"))
    broken, unbroken = trainings(store)
    assert_whole(store, broken.info.run_id, 20)
    assert scores(store, broken.info.run_id) == scores(store, unbroken.info.run_id)


def test_another_byte_is_another_training_and_another_name_is_not(
    small_data, store, tmp_path, monkeypatch, capsys, png_only
):
    path, another, renamed = (plain(tmp_path, name=f"{n}.py") for n in ("own", "other", "same"))
    with Path(another).open("a") as file:
        file.write("\n")
    stop_when(monkeypatch, lambda r: r.epoch == 1, lambda: train("mlp_numpy", epochs=2, code=path))
    for code, goes_on in ((another, False), ("", False), (renamed, True)):
        capsys.readouterr()
        train("mlp_numpy", epochs=2, code=code)
        assert ("goes on after epoch 1" in capsys.readouterr().out) == goes_on
    for code, reused in ((renamed, 1), (path, 5), (another, 1)):
        train("lr_sweep", epochs=2, lrs=LRS, code=code)
        assert capsys.readouterr().out.count("already done: ") == reused


def test_no_command_executes_what_a_store_holds(small_data, store, tmp_path, eml, png_only):
    trace = tmp_path / "trace"
    path = plain(tmp_path, before=TRACE.format(str(trace)))
    train("mlp_numpy", epochs=1, code=path)
    (run,) = trainings(store)
    assert trace.exists()
    trace.unlink()
    assert eml("compare").returncode == 0
    assert eml("plan", "lr_sweep", "--epochs", "1").returncode == 0
    assert len(public.load_history("mlp_numpy")) == 2
    with pytest.raises(UserError, match=r"own code, which eml does not execute"):
        public.load_model(run.info.run_id)
    train("mlp_numpy", epochs=1)
    assert not trace.exists()
