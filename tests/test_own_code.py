"""A user's own code that is wrong, unfinished or unwanted: the message, and what is left behind."""

import re
import signal
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pytest

from support.commands import eml_command, train, until
from support.interrupted import history_of
from support.own_code import files_of_traceback, plain, trainings


def assert_refused(result, *parts: str) -> None:
    """In one line, with these parts, before anything has begun."""
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith("eml: ")
    for part in parts:
        assert part in result.stderr


@pytest.fixture
def nowhere(small_data, tmp_path, monkeypatch):
    """A working directory without a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    mlflow.set_tracking_uri(None)
    return tmp_path


def assert_nothing_made(folder: Path) -> None:
    assert not {path.name for path in folder.iterdir()} & {"mlflow.db", "mlruns", "checkpoints"}


def test_an_error_in_a_step_is_shown_from_the_user_s_file_on(small_data, store, tmp_path, eml):
    path = plain(tmp_path, 'if calls == 60: raise ValueError("shapes do not fit")')
    result = eml("mlp_numpy", "--epochs", "9", "--code", path)
    assert result.returncode == 2
    *traceback, last = result.stderr.splitlines()
    assert traceback[0] == "Traceback (most recent call last):"
    assert set(files_of_traceback(result.stderr)) == {path}
    assert "src/eml" not in result.stderr
    reason = re.fullmatch(r"eml: (own\.py, line \d+: ValueError: shapes do not fit)", last)[1]
    assert traceback[-1] == "ValueError: shapes do not fit"
    (run,) = trainings(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].endswith(reason)
    assert 1 < history_of(store, run.info.run_id)["test_loss"][-1][0] < 8


def test_a_skeleton_says_what_is_to_be_filled_in(nowhere, eml):
    assert eml("new", "numpy").returncode == 0
    command = ("mlp_numpy", "--code", "own_numpy.py")
    lines = Path("own_numpy.py").read_text().splitlines()

    def number(method: str) -> int:
        (found,) = (n for n, t in enumerate(lines, 1) if f"not implemented yet: {method}" in t)
        return found

    missing = "own_numpy.py, line {}: not implemented yet: {}"
    assert_refused(eml(*command), missing.format(number("forward"), "forward"))
    text = Path("own_numpy.py").read_text()
    forward = 'raise NotImplementedError("not implemented yet: forward")'
    passes = """x = images
        p = self.parameters
        for i in (1, 2, 3):
            x = x @ p[f"weights_{i}"] + p[f"biases_{i}"]
            if i < 3:
                x = 0.5 * (1 + np.tanh(0.5 * x))
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)"""
    Path("own_numpy.py").write_text(text.replace(forward, passes))
    lines = Path("own_numpy.py").read_text().splitlines()
    assert_refused(eml(*command), missing.format(number("step"), "step"))
    assert_nothing_made(nowhere)


BROKEN = {
    "no Python": ("def mlp(:\n", "own.py: ", "(own.py, line 1)"),
    "another encoding": (b"a = 'f\xfcr'\n", "own.py: ", "utf-8"),
    "zero bytes": (b"a = 1\0", "own.py: ", "null bytes"),
    "no class": ("a = 1\n", "own.py has no class MLP"),
    "a missing file": (None, "own.py: No such file", "give a Python file"),
    "a folder": ("", "own.py: Is a directory", "give a Python file"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("recipe", ["mlp_numpy", "lr_sweep", "sheet2"])
def test_what_is_no_code_is_refused_before_anything_begins(what, recipe, nowhere, eml):
    text, *parts = BROKEN[what]
    if what == "a folder":
        Path("own.py").mkdir()
    elif text is not None:
        Path("own.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(eml(recipe, "--code", "own.py"), *parts)
    assert_nothing_made(nowhere)


@pytest.mark.parametrize("statement", ["raise SystemExit(0)", "import sys; sys.exit('over')"])
def test_code_that_exits_is_refused(statement, nowhere, eml):
    Path("own.py").write_text(f"a = 1\n{statement}\n")
    result = eml("mlp_numpy", "--code", "own.py")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("eml: own.py, line 2: SystemExit")
    assert "src/eml" not in result.stderr
    assert_nothing_made(nowhere)


def test_probabilities_that_are_no_numbers_are_a_diverged_training(small_data, store, tmp_path):
    path = plain(tmp_path, "if calls > 60: self.w3 = self.w3 * np.nan")
    train("mlp_numpy", epochs=20, code=path)
    (run,) = trainings(store)
    assert run.info.status == "FINISHED"
    *_, (last, loss) = history_of(store, run.info.run_id)["train_loss"]
    assert np.isnan(loss)
    assert 1 < last < 9
    assert run.data.tags["diverged"] == f"epoch {last}"


def test_code_that_hangs_is_ended_by_ctrl_c(store, environment, tmp_path):
    path = plain(tmp_path, "while calls > 60: Path('hangs').touch()", "from pathlib import Path\n")
    command = eml_command("mlp_numpy", "--epochs", "20", "--code", path)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(Path("hangs").exists)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"stopped after epoch [2-8]; the same command goes on\n", complaints)
    (run,) = trainings(store)
    assert run.info.status == "KILLED"


@pytest.mark.parametrize("link", [False, True])
def test_a_module_beside_the_file_is_not_found(link, nowhere, eml, monkeypatch):
    """Neither by PYTHONPATH nor in the working directory; it would escape the SHA-256."""
    folder = nowhere / "folder"
    folder.mkdir()
    (folder / "layers_of_mine.py").write_text("a = 1\n")
    plain(folder, before="import layers_of_mine\n")
    if link:
        (nowhere / "link").symlink_to(folder)
        folder = nowhere / "link"
    monkeypatch.chdir(folder)
    for path in ("", str(folder)):
        with monkeypatch.context() as patch:
            patch.syspath_prepend(path)
            result = eml("mlp_numpy", "--code", str(folder / "own.py"), "--check", "only")
        assert result.returncode == 2, result.stdout
        line = result.stderr.splitlines()[-1]
        assert re.search(r"own\.py, line 1: ModuleNotFoundError: .*'layers_of_mine'", line)
        assert line.endswith("put all code of your own in one file")


@pytest.mark.filterwarnings("ignore::ImportWarning")
def test_a_relative_import_is_answered_in_the_same_way(nowhere, eml):
    path = plain(nowhere, before="from . import layers_of_mine\n")
    line = eml("mlp_numpy", "--code", path, "--check", "only").stderr.splitlines()[-1]
    assert line.startswith("eml: own.py, line 1: ImportError: ")
    assert line.endswith("put all code of your own in one file")


@pytest.mark.parametrize("recipe", ["mlp_numpy", "lr_sweep", "sheet2"])
def test_a_check_alone_makes_nothing(recipe, nowhere, eml):
    path = plain(nowhere)
    result = eml(recipe, "--code", path, "--check", "only")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("of central differences\n") == 1 + (recipe == "sheet2")
    assert "epoch" not in result.stdout
    plain(nowhere, "learning_rate = 2 * learning_rate")
    assert_refused(eml(recipe, "--code", path, "--check", "only"), "weights_3 is 2 times")
    assert_nothing_made(nowhere)


@pytest.mark.parametrize(
    ("recipe", "check"),
    [("mlp_numpy", "only"), ("lr_sweep", "only"), ("cifar_cnn", "true"), ("cifar_cnn", "only")],
)
def test_a_check_without_code_is_refused_where_it_has_no_effect(recipe, check, nowhere, eml):
    assert_refused(eml(recipe, "--check", check), f"check={check} has no effect")
    assert_nothing_made(nowhere)
