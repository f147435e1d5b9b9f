"""The origin of a result, asked of a real checkout in which a copy of the module lies."""

import importlib.util
import shutil
import subprocess
import sys

import mlflow
import pytest
from mlflow.utils import mlflow_tags

from eml.tracking import provenance, runs
from support.commands import stored_runs


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


def test_a_file_that_is_not_under_version_control_has_no_commit(checkout):
    module, _, _ = checkout
    assert module.git_tags(module.uncommitted()) == UNKNOWN
    assert module.uncommitted() == b""


def test_the_commit_and_what_differs_from_it(checkout):
    module, git, folder = checkout
    (folder / "other").write_bytes(b"one\n\xff\x00")
    git("add", "-A")
    assert module.git_tags(module.uncommitted()) == UNKNOWN  # no commit yet
    git("commit", "-q", "-m", "m")
    git("remote", "add", "origin", "https://me:secret@example.org/eml.git")
    commit = git("rev-parse", "HEAD").decode().strip()
    assert module.git_tags(module.uncommitted()) == {
        "git_commit": commit,
        "git_dirty": "false",
        mlflow_tags.MLFLOW_GIT_COMMIT: commit,
        mlflow_tags.MLFLOW_GIT_DIRTY: "false",
        mlflow_tags.MLFLOW_GIT_BRANCH: "trunk",
        mlflow_tags.MLFLOW_GIT_REPO_URL: "https://example.org/eml.git",
    }
    assert module.uncommitted() == b""
    changed = b"two\n\xfe\x00"
    (folder / "other").write_bytes(changed)
    assert module.git_tags(module.uncommitted())["git_dirty"] == "true"
    difference = module.uncommitted()
    git("checkout", "-q", ".")
    (folder / "a.diff").write_bytes(difference)
    git("apply", str(folder / "a.diff"))
    assert (folder / "other").read_bytes() == changed


def test_what_is_not_committed_is_an_artifact(store, monkeypatch):
    monkeypatch.setattr(runs, "uncommitted", lambda: b"a difference")
    with runs.run("r", "d", {}):
        pass
    (run,) = stored_runs(store)
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{runs.CHANGES}") == "a difference"


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
