"""What somebody else has typed, written or stored ends nothing but in a line."""

import os
import re
import signal
import stat
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import strategies as st
from mlflow.entities import Metric
from safetensors.numpy import save_file

from eml import cli
from eml.errors import LONGEST, UserError, printable, redacted
from eml.exact import command as exact
from eml.handin.form import read_form, write_form
from eml.launchers.slurm import cluster
from eml.launchers.slurm.settings import JobOptions
from eml.machine import SIGNALS
from eml.recipes import RECIPES
from eml.sweeps import launch
from eml.tracking import find
from eml.tracking.digests import training_digest
from eml.tracking.resume import EMPTY
from eml.training.checkpoints import directory, new_slot, private_folder
from support.commands import configs_of, stored_runs, train
from support.examples import for_all

COMMANDS = [*RECIPES, "plan lr_sweep", "gradients"]
DOING = [  # what a command calls once its options are read
    (launch, "launch"),
    (launch, "plan"),
    (exact, "gradients"),
]
VALUES = [
    "",
    "0",
    "-1",
    "1",
    "7",
    "2.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 400,
    "1,2,3",
    "1,1",
    ",",
    "auto",
    "true",
    "sgd",
    "adam,sgd",
    "cpu",
    "cuda",
    "slurm",
    "local",
    "\x1b[2J\x1b]0;title\x07",
    "two\nlines",
    "\udc80",
    "‮right to left",
    "x" * 100_000,
    "http://me:secret@host/",
    "$(touch owned)",
    "; rm -rf /",
    "../../etc/passwd",
    "--help",
    "%s%n",
]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process, all but the training: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "launch", lambda *_: None)
    monkeypatch.setattr(launch, "plan", lambda *_: None)
    former = {number: signal.getsignal(number) for number in SIGNALS}

    def run(arguments: list[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["eml", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    yield run
    for number, handler in former.items():
        signal.signal(number, handler)


def assert_in_a_line(code: int, out: str, complaint: str, arguments: list[str]) -> None:
    assert code in (0, 2), arguments
    if code:
        assert out == "", arguments
        assert complaint.startswith("eml: "), arguments
        assert complaint.endswith("\n"), arguments
        assert complaint[:-1].isprintable(), arguments
        assert len(complaint) <= LONGEST + len("eml: \n"), arguments
        assert "secret" not in complaint, arguments


VALUE = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(exclude_characters="\0")),  # no argument of a process holds a 0
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.floats(width=16).map(str), max_size=3).map(",".join),
)


@st.composite
def command_lines(draw) -> list[str]:
    """A command of a recipe with up to four of its options, each with any value."""
    name = draw(st.sampled_from(COMMANDS))
    *_, recipe = name.split()
    context = click.Context(cli.cli)
    options = [parameter.opts[0] for parameter in cli.cli.get_command(context, recipe).params]
    chosen = draw(st.lists(st.sampled_from(options), max_size=4, unique=True))
    return [*name.split(), *(part for option in chosen for part in (option, draw(VALUE)))]


@pytest.mark.parametrize("examples", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_options_are_taken_or_refused_in_a_line(
    examples, command, small_data, tmp_path, monkeypatch
):
    begun, accepted = [], []
    for module, name in DOING:
        monkeypatch.setattr(module, name, lambda *_: begun.append(1))

    def check(arguments):
        begun.clear()
        code, out, complaint = command(arguments)
        accepted.append(code == 0)
        assert bool(begun) is (code == 0), arguments  # never exit code 0 with nothing done
        assert_in_a_line(code, "" if code == 0 else out, complaint, arguments)

    for_all(examples, check, command_lines())
    assert 0 < sum(accepted) < len(accepted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("examples", [5, pytest.param(150, marks=pytest.mark.slow)])
def test_no_command_leaves_a_run_that_is_running(examples, store, eml):
    """Small trainings with some of their options at random: done, or refused with nothing done."""
    small = st.fixed_dictionaries(
        {"--epochs": st.sampled_from(["1", "2"]), "--subset": st.sampled_from(["50", "100"])},
        optional={
            "--seed": st.one_of(st.integers(0, 2**32).map(str), VALUE),
            "--batch_size": st.one_of(st.integers(-1, 120).map(str), VALUE),
            "--lr": st.one_of(st.floats(1e-3, 1e38).map(str), VALUE),
            "--check": st.sampled_from(["true", "false", "maybe"]),
            "--dtype": st.sampled_from(["float32", "float64", "int8"]),
        },
    )
    finished = []

    def check(options):
        before = len(stored_runs(store))
        result = eml("mlp_numpy", *(part for option in options.items() for part in option))
        after = stored_runs(store)
        assert result.returncode in (0, 2), options
        assert len(after) == before + (result.returncode == 0), options
        assert {run.info.status for run in after} <= {"FINISHED"}, options
        finished.append(result.returncode == 0)
        assert "Traceback" not in result.stderr

    for_all(examples, check, small)
    assert any(finished)


@pytest.mark.parametrize("value", VALUES)
def test_odd_words_in_place_of_names(value, command):
    for arguments in ([value], ["plan", value], ["data", value], ["cifar_cnn", f"--{value}", "1"]):
        code, out, complaint = command(arguments)
        if value not in ("", "--help"):
            assert code == 2
            assert_in_a_line(code, out, complaint, arguments)


FILES = {
    "cluster": (
        'slurm_partition = "students"\nslurm_mem = "5GB"\nslurm_time = 30\n'
        'slurm_setup = ["module load python"]\n'
    ),
}
PIECES = ["[", "]", '"', "\n", "=", ",", "1e999999999", "nan", "-inf", "true", "1979-05-27", "\0"]
PIECES += ["'''", "{a=1}", "[" * 2000, "9" * 5000, "\x1b[2J", "é", "\ud800", "1/0", '"1/0"']


def _settings(file: Path) -> JobOptions:
    return JobOptions(slurm_file=str(file)).resolved()


PIECE = st.one_of(st.sampled_from(PIECES), st.text(max_size=5))


@st.composite
def spoilt(draw, text: str) -> bytes:
    """The text with one to three places replaced."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(PIECE) + text[at + draw(st.sampled_from([0, 1, 3, 10])) :]
    return text.encode("utf-8", "surrogatepass")


READERS = {"cluster": _settings, "handin": read_form}


@pytest.mark.parametrize("examples", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", READERS)
def test_any_file_is_read_or_refused(kind, examples, tmp_path):
    file = tmp_path / "file.toml"
    if kind == "handin":
        write_form(file, "ex2-2025")
    text = FILES[kind] if kind in FILES else file.read_text()

    def check(content):
        file.write_bytes(content)
        complaint = ""
        try:
            READERS[kind](file)
        except UserError as error:
            complaint = error.shown()
        assert complaint.isprintable()
        assert len(complaint) <= LONGEST

    for_all(examples, check, spoilt(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host:5000/x", "http://host:5000/x"),
        ("postgresql+psycopg://me:p/a@s@host/db", "postgresql+psycopg://host/db"),
        ("https://token@host", "https://host"),
        ("'http://a:b@c' and http://d:e@f", "'http://c' and http://f"),
        ("connect(password=secret, user=me)", "connect(password=***, user=me)"),
        # What has none is left as it is.
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000/#/runs and me@host", "http://127.0.0.1:5000/#/runs and me@host"),
    ],
)
def test_redacted(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize("password", ["se'cret", 'se"cret', "se cret", "se@cret", "s/e:c"])
def test_the_password_of_the_store_is_left_out_whatever_it_holds(password, monkeypatch):
    uri = f"http://me:{password}@127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert redacted(f"'{uri}' and {uri}/x") == "'http://127.0.0.1:5000' and http://127.0.0.1:5000/x"


def test_printable():
    assert printable("a\x1b[2J\nb") == "a\\x1b[2J\\nb"
    assert printable("naïve ✓") == "naïve ✓"
    long = printable("begin" + "x" * 100_000 + "end")
    assert len(long) <= LONGEST
    assert long.startswith("begin")
    assert long.endswith("end")


def test_a_tag_that_is_no_job_never_reaches_slurm(tmp_path, monkeypatch):
    for program in ("squeue", "scontrol", "sacct"):
        (tmp_path / program).write_text(f"#!/bin/sh\necho {program} $* >> {tmp_path}/called\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for tag in ("--help", "1; touch x", "1_", "", "1\n2", "²"):
        assert cluster.alive([tag]) == {}
        assert cluster.outcome(tag) == "this is not the number of a Slurm job"
    assert not (tmp_path / "called").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("use", [lambda: private_folder("slurm"), lambda: new_slot("d", EMPTY)])
def test_a_folder_of_another_user_is_refused(use, tmp_path, monkeypatch):
    """Who owns the folder could put pickles and checkpoints there."""
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path))
    directory().mkdir(mode=0o777)
    os.chown(directory(), 12345, 12345)
    with pytest.raises(UserError, match=r"no checkpoints can be kept in .*another user"):
        use()
    assert list(directory().iterdir()) == []


def test_a_folder_that_others_may_write_is_made_private(tmp_path, monkeypatch):
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path))
    directory().mkdir()
    directory().chmod(0o777)
    assert private_folder("slurm").is_dir()
    assert stat.S_IMODE(directory().stat().st_mode) == 0o700


def test_a_run_that_only_says_that_it_is_a_training_is_none(small_data, store):
    options = {"epochs": 1, "lrs": "1,0.5,0.1,0.05,0.01"}
    experiment = store.get_experiment_by_name("test").experiment_id
    configs = configs_of("lr_sweep", **options)
    foreign = store.create_run(experiment, tags={"training_digest": training_digest(configs[1])})
    store.set_terminated(foreign.info.run_id)
    assert find.finished_training(configs[1]) is None
    train("lr_sweep", **options)
    (parent,) = [run for run in stored_runs(store) if run.data.tags.get("recipe") == "lr_sweep"]
    assert "reused_runs" not in parent.data.tags
    assert len(find.children(parent.info.run_id)) == 5


def spoil_with_nan(store, run_id, folder):
    store.log_batch(run_id, [Metric("final_test_accuracy", float("nan"), 2**41, 5)])


def spoil_by_truncation(store, run_id, folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def spoil_by_emptiness(store, run_id, folder):
    (folder / "weights.safetensors").write_bytes(b"")


def spoil_with_other_weights(store, run_id, folder):
    save_file({"w": np.zeros(3)}, folder / "weights.safetensors")


def spoil_with_no_json(store, run_id, folder):
    (folder / "config.json").write_text("{" * 100_000)


def spoil_with_another_config(store, run_id, folder):
    (folder / "config.json").write_text('{"recipe": "mlp_numpy", "colour": "red"}')


def spoil_with_a_list(store, run_id, folder):
    (folder / "config.json").write_text("[1]")


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (spoil_with_nan, 1, "the accuracies differ"),
        (spoil_by_truncation, 2, r"eml: run \w+: the weights .models:/m-\w+. are damaged: .*"),
        (spoil_by_emptiness, 2, r"eml: run \w+: the weights .models:/m-\w+. are damaged: .*"),
        (spoil_with_other_weights, 2, r"eml: the weights of run \w+ do not fit its network"),
        (spoil_with_no_json, 2, r"eml: run \w+ was made by another version of eml: .*"),
        (spoil_with_another_config, 2, r"eml: run \w+ was made by another version of eml: .*"),
        (spoil_with_a_list, 2, r"eml: run \w+ was made by another version of eml: .*"),
    ],
)
def test_evaluate_of_what_was_spoilt(
    spoil, code, message, small_data, store, command, tmp_path, capsys
):
    train("mlp_numpy", epochs=1)
    (run,) = stored_runs(store)
    (model,) = run.outputs.model_outputs
    spoil(store, run.info.run_id, tmp_path / "mlruns/models" / model.model_id / "artifacts")
    capsys.readouterr()
    result, _, complaint = command(["evaluate", run.info.run_id])
    assert result == code
    assert re.fullmatch(message, complaint.splitlines()[-1])
    assert "Traceback" not in complaint
