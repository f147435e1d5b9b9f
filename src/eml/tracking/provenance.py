"""The origin of a result: the commit of the code, and the package versions."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """The versions of Python and of the main packages."""
    packages = ("torch", "numpy", "mlflow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def git_state() -> dict[str, str]:
    """The commit of this package's own checkout, and whether a tracked file differs from it.

    Both are "unknown" where the package is not a git checkout (installed from a wheel, say).
    """
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Without this check a wheel inside another project's checkout would report its commit.
        git("ls-files", "--error-unmatch", here.name)
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(dirty).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
