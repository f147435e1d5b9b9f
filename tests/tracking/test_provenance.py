"""The origin of a result, asked of a real checkout in which a copy of the module lies."""

import importlib.util
import shutil
import subprocess
import sys

import pytest
from mlflow.utils import mlflow_tags

from eml.tracking import provenance


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit of provenance.py; the module, and a function that calls git."""
    folder = tmp_path / "checkout"
    (folder / "src").mkdir(parents=True)
    file = shutil.copy(provenance.__file__, folder / "src/provenance.py")

    def git(*arguments: str) -> bytes:
        options = ["-c", "user.name=n", "-c", "user.email=e", "-C", str(folder)]
        return subprocess.run(["git", *options, *arguments], check=True, capture_output=True).stdout

    spec = importlib.util.spec_from_file_location("provenance_copy", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    git("init", "-q", "-b", "trunk")
    return module, git, folder


UNKNOWN = {"git_commit": "unknown", "git_dirty": "unknown"}


def test_the_commit_and_whether_files_differ_from_it(checkout):
    module, git, folder = checkout
    assert module.code_state() == UNKNOWN  # the file is not under version control
    (folder / "other").write_text("one")
    git("add", "-A")
    assert module.code_state() == UNKNOWN  # no commit yet
    git("commit", "-q", "-m", "m")
    commit = git("rev-parse", "HEAD").decode().strip()
    (folder / "untracked").write_text("")
    tags = {"git_commit": commit, "git_dirty": "false", mlflow_tags.MLFLOW_GIT_COMMIT: commit}
    assert module.code_state() == tags
    (folder / "other").write_text("two")
    assert module.code_state() == tags | {"git_dirty": "true"}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["/bin/eml", "compare", "--filter", "a = 'b'"],
            "eml compare --filter 'a = '\"'\"'b'\"'\"''",
        ),
        (["src/eml/__main__.py", "mlp_numpy"], "eml mlp_numpy"),
        (["/bin/pytest", "-q"], ""),
    ],
)
def test_the_command_can_be_given_again(arguments, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    assert provenance.command() == command
