"""The source of this program for the archive."""

import hashlib
import subprocess
from collections.abc import Collection
from pathlib import Path

from eml.tracking.provenance import changes_since

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parents[1]  # of the checkout, if this is one


def source_files(commits: Collection[str]) -> tuple[dict[str, bytes], list[str]]:
    """The files of the source by path, as they are now, and warnings about them.

    commits: those that the runs were trained with. A warning names those that the source differs
    from.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel").strip()) != ROOT.resolve():
            raise OSError
        _git("ls-files", "--error-unmatch", str(Path(__file__)))
    except (OSError, subprocess.CalledProcessError):
        return _installed(), ["the source is that of the installed package, not of a git checkout"]
    paths = _git("ls-files", "-z", "--cached").split("\0")
    paths += _git("ls-files", "-z", "--others", "--exclude-standard", "src").split("\0")
    files = {path: (ROOT / path).read_bytes() for path in paths if (ROOT / path).is_file()}
    other = ", ".join(commit[:9] for commit in sorted(commits) if _differs(commit))
    return files, [f"the runs' commit is {other}, and the source here differs"] if other else []


def _differs(commit: str) -> bool:
    """Whether the checkout differs from a commit, or does not have it."""
    try:
        return bool(changes_since(commit))
    except subprocess.CalledProcessError:
        return True


def source_digest() -> str:
    """12 hexadecimal digits that change with the source of this program, installed or not."""
    files = _installed()
    content = b"".join(path.encode() + files[path] for path in sorted(files))
    return hashlib.sha256(content).hexdigest()[:12]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def _installed() -> dict[str, bytes]:
    return {
        str(Path("src/eml", file.relative_to(PACKAGE))): file.read_bytes()
        for file in sorted(PACKAGE.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
