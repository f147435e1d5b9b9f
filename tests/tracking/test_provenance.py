"""The origin of a result: of a checkout in which a copy of the module lies, and the packages."""

import importlib.util
import re
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import pytest
from mlflow.utils import mlflow_tags

from eml.tracking import provenance, runs


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


def test_packages_are_names_and_versions_without_urls(tmp_path, monkeypatch):
    """pip freeze prints where a package came from; such a URL may hold a token."""
    for folder, number in (("second", "0.1"), ("first", "1.5")):
        installed = tmp_path / folder / f"Private-{number}.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text(f"Name: Private\nVersion: {number}\n")
        (installed / "direct_url.json").write_text('{"url": "https://me:secret@host/x.zip"}')
        (tmp_path / folder / "damaged-1.0.dist-info").mkdir()
        monkeypatch.syspath_prepend(installed.parent)
    lines = provenance.packages().splitlines()
    assert [line for line in lines if "rivate" in line] == ["Private==1.5"]
    assert {f"numpy=={np.__version__}", f"mlflow=={mlflow.__version__}"} <= set(lines)
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines), lines
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(set(names))


def test_a_top_level_run_has_the_packages(store):
    with runs.run("r", "d", {}) as top, runs.run("n", "d", {}, parent=top) as nested:
        pass
    text = mlflow.artifacts.load_text(f"runs:/{top}/packages.txt")
    assert f"mlflow=={mlflow.__version__}\n" in text
    assert text == provenance.packages()
    assert store.list_artifacts(nested) == []
