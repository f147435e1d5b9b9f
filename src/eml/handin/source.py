"""The source of this program for the archive: at the commit of the runs, and all changes since."""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path

from eml.tracking.provenance import changes_since

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parents[1]  # of the checkout, if this is one
CHANGES = "changes.diff"


def source_files(commits: Collection[str]) -> tuple[dict[str, bytes], list[str]]:
    """The files of the source by path, and remarks about them.

    commits: those that the runs were trained with. The files are those of the only commit, or of
    HEAD if there are several; `changes.diff` has the changes between them and the checkout.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel").decode().strip()) != ROOT.resolve():
            raise OSError
        _git("ls-files", "--error-unmatch", str(Path(__file__)))
    except (OSError, subprocess.CalledProcessError):
        return _installed(), ["the source is that of the installed package, not of a git checkout"]
    commit, remarks = _commit(commits)
    files = {}
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as tar:
        for member in tar:
            if member.isfile() and (content := tar.extractfile(member)):
                files[member.name] = content.read()
    changes = changes_since(commit)
    if changes:
        files[CHANGES] = changes
        remarks.append(f"the checkout differs from commit {commit[:9]}: {CHANGES} has the changes")
    for path in (
        _git("ls-files", "-z", "--others", "--exclude-standard", "src").decode().split("\0")
    ):
        if path:
            files[path] = (ROOT / path).read_bytes()
            remarks.append(f"{path} is not committed: it is in the archive all the same")
    return files, remarks


def source_digest() -> str:
    """12 hexadecimal digits that change with the source of this program, installed or not."""
    files = _installed()
    content = b"".join(path.encode() + files[path] for path in sorted(files))
    return hashlib.sha256(content).hexdigest()[:12]


def _commit(commits: Collection[str]) -> tuple[str, list[str]]:
    """The commit of the source, and a remark if the runs are of other ones."""
    head = _git("rev-parse", "HEAD").decode().strip()
    if len(commits) == 1:
        (commit,) = commits
        try:
            _git("cat-file", "-e", f"{commit}^{{commit}}")
            return commit, []
        except subprocess.CalledProcessError:
            return head, [f"commit {commit[:9]} of the runs is not in this checkout"]
    if commits:
        shown = ", ".join(sorted(commit[:9] for commit in commits))
        return head, [f"the runs are of several commits, {shown}: the source is that of HEAD"]
    return head, []


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _installed() -> dict[str, bytes]:
    return {
        str(Path("src/eml", file.relative_to(PACKAGE))): file.read_bytes()
        for file in sorted(PACKAGE.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
