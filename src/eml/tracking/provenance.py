"""The origin of a result: the command, the commit of the code, and the package versions."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_BRANCH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_GIT_DIRTY,
    MLFLOW_GIT_REPO_URL,
)

from eml.errors import printable, redacted

PROGRAM = ("eml", "__main__.py")  # the file names of eml's command line


def versions() -> dict[str, str]:
    """The versions of Python and of the main packages."""
    packages = ("torch", "numpy", "mlflow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def command() -> str:
    """The command line of this process, to be given again; "" if it is none of eml's."""
    name, *arguments = sys.argv
    return printable(shlex.join(["eml", *arguments])) if Path(name).name in PROGRAM else ""


def git_tags(changes: bytes) -> dict[str, str]:
    """The commit of this package's own checkout, and whether a tracked file differs from it.

    As git_commit and git_dirty, which are "unknown" where the package is not a git checkout
    (installed from a wheel, say); and in MLflow's own tags, with the branch and the repository.
    changes: the result of uncommitted().
    """
    try:
        _assert_checkout()
        commit, dirty = _text("rev-parse", "HEAD"), str(bool(changes)).lower()
        mlflows = {
            MLFLOW_GIT_COMMIT: commit,
            MLFLOW_GIT_DIRTY: dirty,
            MLFLOW_GIT_BRANCH: _text("rev-parse", "--abbrev-ref", "HEAD"),
            MLFLOW_GIT_REPO_URL: redacted(_text("config", "--default", "", "remote.origin.url")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    known = {name: value for name, value in mlflows.items() if value}
    return {"git_commit": commit, "git_dirty": dirty} | known


def uncommitted() -> bytes:
    """What differs from the commit in tracked files; b"" if nothing, or without a checkout."""
    try:
        _assert_checkout()
        return changes_since("HEAD")
    except (OSError, subprocess.CalledProcessError):
        return b""


def changes_since(commit: str) -> bytes:
    """What differs from a commit in tracked files of the checkout, as `git apply` takes it."""
    return _git("diff", "--binary", "--no-color", "--no-ext-diff", "--no-relative", commit)


def _assert_checkout() -> None:
    """Raise CalledProcessError, or OSError without git, if this file is not under version control.

    A wheel inside another project's checkout is not, and must not report that project's commit.
    """
    _git("ls-files", "--error-unmatch", Path(__file__).name)


def _text(*arguments: str) -> str:
    return _git(*arguments).decode(errors="replace").strip()


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout
