"""Trainings in worker processes: equal to those in one process, and none takes another along."""

import dataclasses
import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from multiprocessing import get_context

import mlflow
import psutil
import pytest

from eml.analysis.options import Selection
from eml.config import ConfigError
from eml.data.datasets import load
from eml.launchers.base import Result, Task
from eml.launchers.local import Workers
from eml.sweeps.launch import LaunchError
from eml.tracking import log
from eml.tracking.history import load_history
from eml.tracking.log import log_dataset
from eml.tracking.runs import run
from eml.training.threads import Asked
from support.commands import config_of, eml_command, stored_runs, train

LRS = "1,0.5,0.1,0.05,0.01"

STORES = 20


def task(parent: str, **options) -> Task:
    config = config_of("mlp_numpy", **{"epochs": 1} | options)
    return Task(config=config, parent=parent, threads=Asked(at_once=2))


def test_a_sweep_in_workers_gives_the_same(small_data, store, environment):
    local = {"epochs": 2, "lrs": LRS, "launcher": "local", "jobs": "2"}
    train("lr_sweep", **local)
    frame, _ = load_history(Selection())
    assert set(frame["trainings_at_once"]) == {"2"}
    assert set(frame["threads"]) == {"1"}
    train("lr_sweep", epochs=2, lrs=LRS, resume=False)
    inline, _ = load_history(Selection())
    assert set(inline["trainings_at_once"]) == {"1"}
    keys = ["learning_rate", "epoch"]
    frame, inline = (f.set_index(keys).sort_index() for f in (frame, inline))
    # One thread or two: another order of summation.
    assert frame["test_loss"].to_numpy() == pytest.approx(inline["test_loss"].to_numpy(), rel=1e-4)
    assert (frame["run_id"] != inline["run_id"]).all()


def test_a_killed_worker_and_a_failed_training_take_no_other_along(
    small_data, store, environment, fault
):
    fault("SIGKILL of a worker of launcher=local", lost="its training, which the next command ends")
    with run("parent", "", {}) as parent, Workers(jobs=2) as workers:
        done = threading.Event()

        def endless_run():
            return next(r for r in stored_runs(store) if r.data.params.get("epochs") == "100000")

        def kill_the_first():
            """When its training has logged an epoch."""
            while not done.wait(0.2):
                with suppress(StopIteration):
                    if "wall_seconds" in endless_run().data.metrics:
                        workers.workers[0].process.kill()
                        return

        killer = threading.Thread(target=kill_the_first)
        killer.start()
        others = [task(parent, seed=seed) for seed in (2, 3, 4)]
        # Refused when the model is made, in the worker.
        object.__setattr__(others[1].config, "dtype", "float31")
        results = workers.run([task(parent, epochs=100_000), *others])
        probes = workers.run([Task(config=config_of("mlp_numpy", epochs=1), probe=True)] * 2)
        done.set()
        killer.join()
    assert "float31" in results.pop(2).reason
    assert results == [Result("its worker was ended by SIGKILL"), Result(), Result()]
    killed = endless_run()
    assert killed.info.status == "FAILED"
    assert killed.data.tags["error"] == "its worker was ended by SIGKILL"
    states = [one.info.status for one in stored_runs(store) if "training_digest" in one.data.tags]
    assert sorted(states) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    for probe in probes:
        assert min(probe.cost.evaluate_image, probe.cost.train_image) > 0


def test_failed_trainings_are_named_when_the_others_are_done(
    small_data, store, monkeypatch, capsys
):
    log_result, ended = log.log_result, []

    def fail_at_the_second(records):
        ended.append(records)
        if len(ended) == 2:
            raise ValueError("no luck")
        log_result(records)

    monkeypatch.setattr(log, "log_result", fail_at_the_second)
    with pytest.raises(
        LaunchError, match=r"1 of 5 .* mlp sgd lr=0.5 seed=1 mlp_numpy [^:]*: .*no luck"
    ):
        train("lr_sweep", epochs=1, lrs=LRS)
    parent, *children = stored_runs(store)
    assert parent.info.status == "FAILED"
    assert [c.info.status for c in children] == ["FINISHED", "FAILED", *["FINISHED"] * 3]
    assert "learning rate 0.05" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "trained"), [(False, 2), (True, 2), (False, 0)])
def test_workers_end_with_the_command(kill, trained, store, environment):
    """By Ctrl-C, also while they start, or because the process that launched them was killed."""
    command = eml_command("lr_sweep", "--epochs", "10000", "--launcher", "local", "--jobs", "2")
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **output, start_new_session=True) as process:
        begun = set()
        for line in process.stdout:
            if match := re.match(r"\[(\d)/6\].*epoch +1/", line):
                begun.add(match[1])
            if len(begun) == trained:
                break
        below = psutil.Process(process.pid).children(recursive=True)
        if kill:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive
    if not kill:
        assert (process.returncode, complaints) == (130, "stopped; the same command goes on\n")
        assert [one.info.status for one in stored_runs(store)] == ["KILLED"] * (1 + trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--launcher", "cloud"], "launcher=cloud: give one of auto, inline, local, slurm"),
        (
            ["--launcher", "inline", "--jobs", "2"],
            "jobs=2 has no effect with launcher=inline: give launcher=local",
        ),
        (
            ["--launcher", "local", "--slurm_mem", "5GB"],
            "slurm_mem=5GB has no effect with launcher=local: give launcher=slurm",
        ),
        (["--jobs", "0"], "jobs=0: give a number from 1 to 1024, or auto"),
        (["--threads", "-1"], "threads=-1: give a number from 1 to 1024, or auto"),
    ],
)
def test_bad_ways_to_launch(arguments, message, store, eml):
    result = eml("lr_sweep", *arguments)
    assert (result.returncode, result.stderr) == (2, f"eml: {message}\n")
    assert stored_runs(store) == []


def test_a_gpu_is_not_shared():
    config = dataclasses.replace(config_of("mlp_torch", device="cpu"), device_type="cuda")
    with pytest.raises(ConfigError, match="jobs=2: on a GPU one training follows the other"):
        Workers(jobs=2).check([config])
    Workers(jobs=1).check([config])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_eight_processes_begin_at_once_on_a_fresh_store(small_data, tmp_path, fault):
    fault("8 processes that begin at once on a fresh store", STORES)
    dataset = load("mnist")
    context = get_context("fork")  # the imports are there already, so that all begin at once

    def begin():
        with run("one of eight", "", {}):
            all_begun.wait(60)
            log_dataset(dataset)

    for number in range(STORES):
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/{number}.db")
        all_begun = context.Barrier(8)
        children = [context.Process(target=begin) for _ in range(8)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 8
        made = mlflow.MlflowClient().search_runs(["0"])
        assert [one.info.status for one in made] == ["FINISHED"] * 8
        assert all(one.inputs.dataset_inputs for one in made)
    mlflow.set_tracking_uri(None)
