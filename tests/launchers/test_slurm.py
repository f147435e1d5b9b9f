"""Trainings in jobs of a real Slurm: whatever becomes of a job, the results are those of inline."""

import getpass
import hashlib
import re
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from threadpoolctl import threadpool_limits

from eml.analysis.options import Selection
from eml.config import ConfigError
from eml.launchers.base import Result, Task
from eml.launchers.options import LaunchOptions
from eml.launchers.slurm import cluster
from eml.launchers.slurm.job import Job
from eml.launchers.slurm.launcher import Slurm
from eml.launchers.slurm.settings import JobOptions
from eml.launchers.worker import prepare, train
from eml.machine import REQUEUE, SIGNALS
from eml.tracking.history import load_history
from eml.tracking.runs import run as tracked_run
from eml.training.loop import TrainingLoop, load_for
from support.commands import ROOT, call, config_of, eml_command, stored_runs, until
from support.interrupted import SCORES, assert_whole
from support.own_code import STUDENTS

RATES = [1.0, 0.5, 0.1, 0.05, 0.01]
EPOCHS = 200
IN_JOBS = ["--launcher", "slurm", "--slurm_time", "10"]


def sweep(epochs: int = EPOCHS) -> list[str]:
    return ["lr_sweep", "--lrs", ",".join(map(str, RATES)), "--epochs", str(epochs)]


class Launched:
    """A command under way, with what it has printed so far."""

    def __init__(self, folder: Path, *arguments: str):
        self.output, self.errors = folder / "output", folder / "errors"
        with self.output.open("w") as output, self.errors.open("w") as errors:
            self.process = subprocess.Popen(eml_command(*arguments), stdout=output, stderr=errors)

    def end(self) -> tuple[int, str]:
        """Wait; its exit code and what it has complained of."""
        return self.process.wait(timeout=300), self.errors.read_text()


@pytest.fixture
def launched(slurm, environment, tmp_path_factory):
    """Starts a command; whatever is left of it ends with the test."""
    started = []

    def start(*arguments: str) -> Launched:
        started.append(Launched(tmp_path_factory.mktemp("launched"), *arguments))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.wait()
    subprocess.run(["scancel", "-u", getpass.getuser()], check=True)


def trained(store) -> dict[str, object]:
    """The trainings in the store, by learning rate; there is one of each."""
    runs = [run for run in stored_runs(store) if "training_digest" in run.data.tags]
    by_rate = {run.data.params.get("learning_rate", run.info.run_id): run for run in runs}
    assert len(by_rate) == len(runs)
    return by_rate


def one_status(store) -> str:
    (run,) = trained(store).values()
    return run.info.status


def parents(store) -> list:
    return [run for run in stored_runs(store) if run.data.tags.get("recipe") == "lr_sweep"]


def running(store, epoch: int) -> dict[str, str]:
    """The jobs, by learning rate, whose training has come to an epoch and goes on."""
    jobs = {}
    for rate, run in trained(store).items():
        if run.info.status == "RUNNING" and "train_seconds" in run.data.metrics:
            last = store.get_metric_history(run.info.run_id, "train_seconds")[-1].step
            if last >= epoch:
                jobs[rate] = run.data.tags["slurm_job"]
    return jobs


def four_at_work(store) -> dict[str, str]:
    """The jobs, by learning rate, once all cores of the cluster are in use."""
    return jobs if len(jobs := running(store, 5)) == 4 else {}


def process_of(job: str) -> psutil.Process:
    array, _, number = job.partition("_")
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile
            if process.name().startswith("python"):
                values = process.environ()
                if [values.get(f"SLURM_ARRAY_{x}_ID") for x in ("JOB", "TASK")] == [array, number]:
                    return process
    raise AssertionError(f"no process of job {job}")


def restarts(job: str) -> int:
    answer = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True)
    return int(re.search(r"Restarts=(\d+)", answer.stdout)[1])


def assert_as_in_one_process(store, epochs: int) -> None:
    """Every epoch is there once, and all scores are those of an unbroken training."""
    in_jobs, _ = load_history(Selection())
    assert len(in_jobs) == len(RATES) * (epochs + 1)
    for one in trained(store).values():
        assert_whole(store, one.info.run_id, epochs)
    with threadpool_limits(1):
        for rate in RATES:
            config = config_of("mlp_numpy", lr=rate, epochs=epochs)
            logged = in_jobs[in_jobs["learning_rate"] == rate].set_index("epoch").sort_index()
            for record in TrainingLoop(config, load_for(config)):
                for name in SCORES:
                    assert logged[name][record.epoch] == getattr(record, name)


def test_preempted_signalled_cancelled_killed(shared_store, launched, small_data):
    first = launched(*sweep(), *IN_JOBS)
    jobs = until(lambda: four_at_work(shared_store))
    assert len(set(jobs.values())) == 4
    # Both nodes are full, so that a core for a better job is that of one training.
    more = ["sbatch", "--parsable", "-p", "high", "--wrap", "true", "-o", "/dev/null"]
    subprocess.run(more, check=True, capture_output=True)

    def preempted():
        return {rate for rate, job in jobs.items() if restarts(job)}

    (out,) = until(preempted)
    signalled, cancelled, killed = (rate for rate in jobs if rate != out)
    subprocess.run(["scancel", "--signal", "USR2", jobs[signalled]], check=True)
    subprocess.run(["scancel", jobs[cancelled]], check=True)
    process_of(jobs[killed]).send_signal(signal.SIGKILL)

    code, complaints = first.end()
    assert code == 1, complaints
    assert complaints.startswith("eml: 2 of 5 trainings failed: ")
    assert re.search(f"lr={cancelled} .*CANCELLED|lr={cancelled} .*stopped: SIGTERM", complaints)
    assert re.search(rf"lr={killed} .*job {jobs[killed]} has ended: .*; log /", complaints)
    ended = trained(shared_store)
    expected = dict.fromkeys(ended, "FINISHED") | {cancelled: "KILLED", killed: "FAILED"}
    assert {rate: run.info.status for rate, run in ended.items()} == expected
    assert restarts(jobs[signalled]) == 1
    assert "trainings in jobs" in first.output.read_text()

    again = launched(*sweep(), *IN_JOBS)
    code, complaints = again.end()
    assert code == 0, complaints
    after = trained(shared_store)
    assert {rate: run.info.run_id for rate, run in after.items()} == {
        rate: run.info.run_id for rate, run in ended.items()
    }
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert_as_in_one_process(shared_store, EPOCHS)


def test_left_and_taken_up_again(shared_store, launched, small_data):
    first = launched(*sweep(), *IN_JOBS)
    jobs = until(lambda: four_at_work(shared_store))
    first.process.send_signal(signal.SIGINT)
    code, complaints = first.end()
    assert (code, complaints) == (130, "stopped; the same command goes on\n")
    (parent,) = parents(shared_store)
    assert parent.info.status == "SCHEDULED"
    assert first.output.read_text().endswith(f"`eml cancel {parent.info.run_id}` ends them\n")

    result = call(eml_command("plan", *sweep(), *IN_JOBS))
    assert result.returncode == 0, result.stderr
    waits = r": waiting in job \d+_\d \(pending \(\w+\)\), 0 of 200 epochs done, run \w+\n"
    assert len(re.findall(waits, result.stdout)) == 1
    works = r": running in job (\d+_\d) \(running on n[12]\), \d+ of 200 epochs done, run \w+\n"
    assert set(jobs.values()) <= set(re.findall(works, result.stdout))

    again = launched(*sweep(), *IN_JOBS)
    code, complaints = again.end()
    assert code == 0, complaints
    assert [run.info.status for run in parents(shared_store)] == ["FINISHED"]
    after = trained(shared_store)
    assert {rate: after[rate].data.tags["slurm_job"] for rate in jobs} == jobs
    assert "trained in jobs on shared nodes" in again.output.read_text()
    result = call(eml_command("plan", *sweep(), *IN_JOBS))
    assert result.stdout.endswith("all trainings are done\n")
    assert_as_in_one_process(shared_store, EPOCHS)


def test_cancelling_ends_jobs_and_runs(shared_store, launched):
    first = launched(*sweep(5000), *IN_JOBS)
    until(lambda: running(shared_store, 3))
    first.process.kill()
    first.end()
    (parent,) = parents(shared_store)
    result = call(eml_command("cancel", parent.info.run_id))
    dead, ended = result.stdout.splitlines()
    assert f"{parent.info.run_id}: its process is gone" in dead
    assert (result.returncode, ended) == (0, "lr_sweep epochs=5000: jobs ended: 5")
    assert cluster.alive(run.data.tags["slurm_job"] for run in trained(shared_store).values()) == {}
    assert [run.info.status for run in stored_runs(shared_store)] == ["KILLED"] * 6
    result = call(eml_command("plan", *sweep(5000), *IN_JOBS))
    stopped = r": stopped: (SIGTERM|cancelled) at .* UTC, \d+ of 5000 epochs done; log /\S+\n"
    assert len(re.findall(stopped, result.stdout)) == 5
    result = call(eml_command("cancel", parent.info.run_id))
    assert (result.returncode, result.stdout) == (0, "lr_sweep epochs=5000: no job is left\n")
    child = next(iter(trained(shared_store).values()))
    result = call(eml_command("cancel", child.info.run_id))
    assert (result.returncode, result.stdout) == (2, "")
    assert f"give the parent run, {parent.info.run_id}" in result.stderr


def test_a_cancelled_search_submits_no_more(shared_store, launched):
    grid = ["--optimizers", "sgd", "--lrs", "0.1,0.01", "--seeds", "1", "--subset", "100"]
    epochs = ["--epochs", "2000", "--search_epochs", "2000"]
    first = launched("optimizers", *grid, *epochs, *IN_JOBS)
    until(lambda: running(shared_store, 2))
    (parent,) = [r for r in stored_runs(shared_store) if r.data.tags["recipe"] == "optimizers"]
    result = call(eml_command("cancel", parent.info.run_id))
    answer = "optimizers epochs=2000 subset=100: jobs ended: 2\n"
    assert (result.returncode, result.stdout) == (0, answer)
    assert first.end() == (1, "eml: cancelled by `eml cancel`\n")
    # Without a word from `eml cancel`, the final trainings would follow.
    assert [run.info.status for run in stored_runs(shared_store)] == ["FAILED", "KILLED", "KILLED"]


def test_the_time_limit_requeues(shared_store, slurm, environment, small_data):
    config = config_of("mlp_numpy", epochs=1_000_000)

    def cancel_when_it_is_on_again():
        def on_again():
            tags = [one.data.tags for one in trained(shared_store).values()]
            logs = [Path(one["slurm_log"]) for one in tags if "slurm_log" in one]
            if any(log.exists() and "goes on after epoch" in log.read_text() for log in logs):
                return [one["slurm_job"] for one in tags]

        subprocess.run(["scancel", *until(on_again)], check=True)

    canceller = threading.Thread(target=cancel_when_it_is_on_again)
    with (
        tracked_run("parent", "", {}) as parent,
        Slurm(LaunchOptions(launcher="slurm", slurm_time="1")) as launcher,
    ):
        task = Task(config=config, parent=parent)
        canceller.start()
        assert "CANCELLED" in launcher.run([task])[0].reason
        canceller.join()
    (one,) = trained(shared_store).values()
    points = shared_store.get_metric_history(one.info.run_id, "train_loss")
    assert [point.step for point in points] == list(range(len(points)))
    log = Path(one.data.tags["slurm_log"]).read_text()
    gone_on = int(re.search(r"goes on after epoch (\d+)\n", log)[1])
    assert 0 < gone_on < len(points)


def test_an_epoch_that_fits_no_job_is_given_up(monkeypatch, small_data, shared_store):
    config = config_of("mlp_numpy", epochs=1)
    with tracked_run("parent", "", {}) as parent:
        task = Task(config=config, parent=parent)
        task = replace(task, run_id=prepare(task))
    for name, value in {
        "SUBMITIT_EXECUTOR": "slurm",
        "SUBMITIT_FOLDER": "/",
        "SLURM_JOB_ID": "7",
    }.items():
        monkeypatch.setenv(name, value)
    requeued = []
    former = {number: signal.getsignal(number) for number in (*SIGNALS, REQUEUE)}
    signal.signal(REQUEUE, lambda *_: requeued.append(True))  # as submitit does
    # The signal arrives in the middle of the first epoch.
    monkeypatch.setattr(TrainingLoop, "__iter__", lambda self: signal.raise_signal(REQUEUE))
    try:
        Job(task, seconds=60)()
        assert requeued.pop()  # half of the job's time is left
        assert one_status(shared_store) == "SCHEDULED"
        Job(task, seconds=0)()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert requeued == []
    assert one_status(shared_store) == "FAILED"
    (run,) = trained(shared_store).values()
    assert run.data.tags["error"] == "a job is too short for one epoch: increase slurm_time"


def test_a_training_that_has_ended_meanwhile_is_not_trained_again(store, small_data):
    with tracked_run("parent", "", {}) as parent:
        task = Task(config=config_of("mlp_numpy", epochs=1), parent=parent)
        train(task)
        assert Slurm(LaunchOptions(launcher="slurm")).run([task]) == [Result()]
    assert len(trained(store)) == 1


def test_a_job_that_cannot_begin(shared_store, launched, tmp_path):
    settings = tmp_path / "cluster.toml"
    settings.write_text('slurm_setup = ["no_such_command", "true"]\n')
    first = launched(*sweep(), "--launcher", "slurm", "--slurm_file", str(settings))
    code, complaints = first.end()
    assert code == 1
    assert complaints.startswith("eml: 5 of 5 trainings failed: ")
    log = re.search(r"job \d+_0 has ended: FAILED, exit code 127; log (\S+);", complaints)[1]
    assert "no_such_command" in Path(log).read_text()
    assert {run.info.status for run in stored_runs(shared_store)} == {"FAILED"}


def test_a_single_training_is_a_sweep_of_one(shared_store, slurm, environment):
    command = eml_command("mlp_numpy", "--epochs", "300", "--seed", "3", *IN_JOBS)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launched:

        def at_work():
            return [
                run for run in trained(shared_store).values() if "test_loss" in run.data.metrics
            ]

        (begun,) = until(at_work)
        job = begun.data.tags["slurm_job"]
        assert set(cluster.alive(["", "999999", job])) == {job}
        subprocess.run(["scontrol", "requeue", job], check=True)
        output = launched.communicate()[0]
    assert launched.returncode == 0, output
    (run,) = trained(shared_store).values()
    assert (run.info.run_id, run.info.status) == (begun.info.run_id, "FINISHED")
    (parent,) = [r for r in stored_runs(shared_store) if "plan_digest" in r.data.tags]
    assert (parent.data.tags["recipe"], parent.info.status) == ("mlp_numpy", "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert_whole(shared_store, run.info.run_id, 300)


def test_sqlite_is_refused(store, slurm, environment):
    result = call(eml_command(*sweep(), *IN_JOBS))
    assert result.returncode == 2
    assert "jobs on several nodes cannot write to sqlite:///" in result.stderr
    assert "start an `mlflow server` and set MLFLOW_TRACKING_URI" in result.stderr
    assert stored_runs(store) == []


def test_what_the_cluster_does_not_have_is_refused_at_once(shared_store, slurm, environment):
    result = call(eml_command(*sweep(), "--launcher", "slurm", "--slurm_partition", "none"))
    assert result.returncode == 2
    assert result.stderr.startswith("eml: sbatch: invalid partition specified: none")
    assert stored_runs(shared_store) == []


def test_without_a_cluster(shared_store, environment, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = call(eml_command(*sweep(), "--launcher", "slurm"))
    assert result.returncode == 2
    assert result.stderr.startswith("eml: there is no Slurm here (sbatch, srun")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slurm_tme = 30", "no setting slurm_tme: give some of slurm_partition, slurm_time, "),
        (
            'slurm_time = "soon"',
            "slurm_time=soon: give minutes, 1 or more, or a time",
        ),
        ("slurm_mem = 5", "slurm_mem=5: give a text"),
        ("slurm_setup = [1]", "expected str"),
        ("slurm_time = ", "Invalid value"),
        ("slurm_time = 0", "slurm_time=0: give minutes, 1 or more"),
        (None, "No such file or directory"),
    ],
)
def test_bad_settings(text, message, tmp_path):
    file = tmp_path / "cluster.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        LaunchOptions(launcher="slurm", slurm_file=str(file))


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("30", 30), ("30:00", 30), ("2:30:00", 150), ("1-2", 1560), ("1-2:30", 1590), ("90:30", 90)],
)
def test_a_time_as_slurm_takes_it(time, minutes):
    settings = LaunchOptions(launcher="slurm", slurm_time=time).resolved()
    assert settings.flags["time"] == minutes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reservation=eml", "reservation=eml is no flag"),
        ("--mail-type END", "END is no flag"),
        ("--mail-type=", "--mail-type= is no flag"),
        ("-A eml", "-A is no flag"),
        ("--mail-type=END --array=3", "eml sets --array itself"),
        ("--arr=3", "eml sets --arr itself"),  # sbatch takes it for --array
        ("--time=5", "eml sets --time itself"),
        ("--ntasks=2", "eml sets --ntasks itself"),
        ("--gpus=1", "eml sets --gpus itself"),  # device=auto goes by slurm_gres
    ],
)
def test_flags_that_are_not_passed_on(text, message, store, eml):
    result = eml("lr_sweep", "--launcher", "slurm", "--slurm_flags", text)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"eml: slurm_flags: {message}")
    assert stored_runs(store) == []


def test_other_flags_are_those_of_the_jobs(shared_store, launched, small_data):
    flags = ["--slurm_flags", "--comment=a=b --exclude=n2 --mail-type=END --hold"]
    launched("mlp_numpy", "--epochs", "1", *IN_JOBS, *flags)
    (run,) = until(
        lambda: [r for r in trained(shared_store).values() if "slurm_job" in r.data.tags]
    )
    answer = cluster.call("scontrol", "-o", "show", "job", run.data.tags["slurm_job"])
    assert {"Comment=a=b", "ExcNodeList=n2", "MailType=END", "Reason=JobHeldUser"} <= {
        *answer.split()
    }


def test_flags_that_this_sbatch_does_not_know_are_refused_at_once(shared_store, slurm, environment):
    result = call(eml_command(*sweep(), *IN_JOBS, "--slurm_flags", "--no-such-flag=1"))
    assert result.returncode == 2
    assert "no-such-flag" in result.stderr
    assert stored_runs(shared_store) == []


def test_jobs_train_own_code(shared_store, launched):
    code = STUDENTS / "plain.py"
    assert launched(*sweep(2), *IN_JOBS, "--code", str(code)).end() == (0, "")
    runs = trained(shared_store).values()
    assert [run.info.status for run in runs] == ["FINISHED"] * 5
    sha256 = hashlib.sha256(code.read_bytes()).hexdigest()
    for run in runs:
        assert "slurm_job" in run.data.tags
        assert run.data.params["code_sha256"] == sha256
        logged = shared_store.download_artifacts(run.info.run_id, "code/plain.py")
        assert Path(logged).read_bytes() == code.read_bytes()


def test_a_job_refuses_own_code_that_has_changed_since(
    shared_store, slurm, environment, small_data, tmp_path
):
    own, trace, text = tmp_path / "own.py", tmp_path / "trace", (STUDENTS / "plain.py").read_text()
    own.write_text(text)
    config = config_of("mlp_numpy", epochs=1, code=str(own))
    own.write_text(f"open({str(trace)!r}, 'w')\n{text}")
    with (
        tracked_run("parent", "", {}) as parent,
        Slurm(LaunchOptions(launcher="slurm", slurm_time="10")) as launcher,
    ):
        (result,) = launcher.run([Task(config=config, parent=parent, code=str(own))])
    assert "own.py has changed since it was submitted" in result.reason
    assert one_status(shared_store) == "FAILED"
    assert not trace.exists()


def test_the_file_of_the_course_has_what_its_job_script_asks_for():
    file = str(ROOT / "docs/course-cluster.toml")
    flags = LaunchOptions(launcher="slurm", slurm_file=file).resolved().flags
    asked = re.search(r"^#SBATCH -p (\S+) (.+)$", (ROOT / "docs/cluster.md").read_text(), re.M)
    words = asked[2].replace("30:00", "30").split()
    expected = {"--partition": asked[1]} | dict(zip(words[::2], words[1::2], strict=True))
    assert expected == {
        f"--{name}": str(v) for name, v in flags.items() if name not in ("requeue", "open-mode")
    }


def test_a_cluster_that_requeues_no_job(shared_store, launched, small_data, tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$1" = requeue ] && echo "refused" >&2 && exit 1\nexit 0\n')
    scontrol.chmod(0o755)
    settings = tmp_path / "cluster.toml"
    settings.write_text(f'slurm_setup = ["export PATH={tmp_path}:$PATH"]\n')
    first = launched(*sweep(100), *IN_JOBS, "--slurm_file", str(settings))
    jobs = until(lambda: running(shared_store, 3))
    subprocess.run(["scancel", "--signal", "USR2", *jobs.values()], check=True)
    code, complaints = first.end()
    assert code == 0, complaints
    assert re.search(
        r"has ended, and its training is submitted again: the cluster does not requeue this job: "
        r".*scontrol.*requeue",
        first.output.read_text(),
    )
    assert_as_in_one_process(shared_store, 100)


def test_options_come_before_the_file(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text(
        'slurm_time = 60\nslurm_partition = "long"\nslurm_setup = ["module load python"]\n'
    )
    options = LaunchOptions(launcher="slurm", slurm_file=str(file), slurm_time="20", slurm_cpus=4)
    assert options.resolved() == JobOptions(
        slurm_time="20",
        slurm_partition="long",
        slurm_cpus=4,
        slurm_array_parallelism=100,
        slurm_setup="module load python",
    )


@pytest.mark.parametrize(
    ("gres", "device", "expected"),
    [("gpu:1", "auto", "cuda"), ("", "auto", "cpu"), ("gpu:1", "cpu", "cpu"), ("", "cuda", "cuda")],
)
def test_the_device_is_that_of_the_jobs(gres, device, expected):
    assert Slurm(LaunchOptions(launcher="slurm", slurm_gres=gres)).device(device) == expected
