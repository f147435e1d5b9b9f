"""The origin of a result: the command, the commit of the code, and the package versions."""

import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import distributions, version
from pathlib import Path

from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from eml.errors import printable

PROGRAM = ("eml", "__main__.py")  # the file names of eml's command line


def versions() -> dict[str, str]:
    """The versions of Python and of the main packages."""
    packages = ("torch", "numpy", "mlflow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def packages() -> str:
    """The installed packages as lines "name==version". No URLs: they may contain tokens."""
    found: dict[str, str] = {}
    for package in distributions():
        with suppress(Exception):  # a damaged installation must not end a training
            found.setdefault(package.name or "", package.version)  # Python imports the first
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower) if name)


def command() -> str:
    """The command line of this process, to be given again; "" if it is none of eml's."""
    name, *arguments = sys.argv
    return printable(shlex.join(["eml", *arguments])) if Path(name).name in PROGRAM else ""


def code_state() -> dict[str, str]:
    """Tags with the commit of this package's checkout, and whether tracked files differ from it.

    "unknown" where the package is not a git checkout: a wheel inside another project's checkout
    must not report that project's commit.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git("rev-parse", "HEAD")
        dirty = str(_git("status", "--porcelain", "--untracked-files=no") != "").lower()
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {"git_commit": commit, "git_dirty": dirty, MLFLOW_GIT_COMMIT: commit}


def changes() -> tuple[str, list[str]]:
    """The commit of the remote that this checkout grew from, and what differs from it.

    "src/eml/cli.py (+3 -1)", for each file. ("", []) where there is no remote.
    """
    try:
        base = _git("merge-base", "HEAD", "origin/HEAD")
        lines = _git("diff", "--numstat", base, "--", ":/").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "", []
    parts = (line.split("\t") for line in lines)
    return base, [f"{path} (+{added} -{removed})" for added, removed, path in parts]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
