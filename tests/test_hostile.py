"""What somebody else has typed, written or stored ends nothing but in a line."""

import os
import re
import stat

import click
import pytest
from hypothesis import strategies as st

from eml import cli
from eml.errors import LONGEST, UserError, printable, redacted
from eml.handin.form import read_form, write_form
from eml.launchers.slurm import cluster
from eml.launchers.slurm.settings import JobOptions
from eml.recipes import RECIPES
from eml.sweeps import launch
from eml.tracking import find
from eml.tracking.digests import training_digest
from eml.tracking.models import load_model
from eml.tracking.resume import EMPTY
from eml.training.checkpoints import directory, new_slot, private_folder
from support.commands import call_here, config_of, stored_runs, train
from support.examples import for_all

COMMANDS = [*RECIPES, "plan lr_sweep"]
DOING = [(launch, "launch"), (launch, "plan")]  # once options are read
WORDS = """0 -1 1 7 2.5 nan inf -inf 1e400 1,2,3 1,1 , auto true sgd adam,sgd cpu cuda slurm local
    http://me:secret@host/ ../../etc/passwd --help %s%n"""
VALUES = [*WORDS.split(), "", "9" * 400, "x" * 100_000, "$(touch owned)", "; rm -rf /"]
VALUES += ["\x1b[2J\x1b]0;title\x07", "two\nlines", "\udc80", "\u202eright to left"]


@pytest.fixture
def begun(monkeypatch, tmp_path) -> list:
    """What command lines in this process would have carried out."""
    begun = []
    monkeypatch.chdir(tmp_path)
    for module, name in DOING:
        monkeypatch.setattr(module, name, lambda *_, **__: begun.append(1))
    return begun


def assert_refused_in_a_line(result) -> None:
    complaint = result.stderr
    assert (result.returncode, result.stdout) == (2, ""), result.args
    assert re.match("eml: .", complaint), result.args
    assert complaint.endswith("\n"), result.args
    assert complaint[:-1].isprintable(), result.args
    assert len(complaint) <= LONGEST + len("eml: \n"), result.args
    assert "secret" not in complaint, result.args


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
def test_any_options_are_taken_or_refused_in_a_line(examples, begun, small_data, tmp_path):
    accepted = []

    def check(arguments):
        begun.clear()
        result = call_here(*arguments)
        accepted.append(result.returncode == 0)
        assert bool(begun) is (result.returncode == 0), arguments
        if result.returncode:
            assert_refused_in_a_line(result)

    for_all(examples, check, command_lines())
    assert 0 < sum(accepted) < len(accepted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [value for value in VALUES if value not in ("", "--help")])
def test_odd_words_in_place_of_names(value, begun):
    for arguments in ([value], ["plan", value], ["data", value], ["cifar_cnn", f"--{value}", "1"]):
        assert_refused_in_a_line(call_here(*arguments))


CLUSTER = """
slurm_partition = "students"
slurm_mem = "5GB"
slurm_time = 30
slurm_setup = ["module load python"]
"""
PIECES = ["[", "]", '"', "\n", "=", ",", "1e999999999", "nan", "-inf", "true", "1979-05-27", "\0"]
PIECES += ["'''", "{a=1}", "[" * 2000, "9" * 5000, "\x1b[2J", "é", "\ud800", "1/0", '"1/0"']
PIECE = st.one_of(st.sampled_from(PIECES), st.text(max_size=5))


@st.composite
def spoilt(draw, text: str) -> bytes:
    """The text with one to three places replaced."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(PIECE) + text[at + draw(st.sampled_from([0, 1, 3, 10])) :]
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("examples", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["cluster", "form"])
def test_any_file_is_read_or_refused(kind, examples, tmp_path):
    file = tmp_path / "file.toml"
    write_form(file, "ex2-2025")
    text = CLUSTER if kind == "cluster" else file.read_text()

    def check(content):
        file.write_bytes(content)
        complaint = ""
        try:
            JobOptions(slurm_file=str(file)).resolved() if kind == "cluster" else read_form(file)
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
    config = config_of("mlp_numpy", epochs=1)
    experiment = store.get_experiment_by_name("test").experiment_id
    foreign = store.create_run(experiment, tags={"training_digest": training_digest(config)})
    store.set_terminated(foreign.info.run_id)
    assert find.finished_training(config) is None


def test_weights_that_were_spoilt(small_data, store, tmp_path):
    train("mlp_numpy", epochs=1)
    (run,) = stored_runs(store)
    (model,) = run.outputs.model_outputs
    file = tmp_path / "mlruns/models" / model.model_id / "artifacts/weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"run \w+ has no readable weights .models:/m-\w+.: "):
        load_model(run.info.run_id)
