"""Where a result comes from: code, package versions, and the processor."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result."""
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
        # Else a wheel inside some other project's checkout would take that project's commit.
        git("ls-files", "--error-unmatch", here.name)
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(dirty).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
