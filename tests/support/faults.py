"""The table of faults in docs/reliability.md, from what the tests report."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BEGIN, END = "<!-- faults -->", "<!-- /faults -->"


def table(reports: Iterable[Any]) -> str:
    """The table as Markdown: of each fault how often it was tried and survived, and what was lost.

    reports: of pytest; each `fault` among its user properties is [name, tried, lost].
    """
    rows: dict[str, list[Any]] = {}
    for report in reports:
        for name, tried, lost in (v for k, v in report.user_properties if k == "fault"):
            row = rows.setdefault(name, [0, 0, lost])
            row[0] += tried
            row[1] += tried if report.passed else 0
    lines = ["| fault | tried | survived | lost |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {n} | {survived} | {lost} |"
        for name, (n, survived, lost) in sorted(rows.items())
    ]
    return "\n".join(lines)


def write(file: Path, made: str) -> None:
    """Put the table between its two marks in a document."""
    before, _, rest = file.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    file.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")


@contextmanager
def full_disk(
    folder: Path, kilobytes: int
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A file system of its own at `folder`; yields what fills it, and what frees it again.

    kilobytes: the space that is left. Skips where file systems cannot be mounted.
    """
    folder.mkdir(exist_ok=True)
    mount, umount = (shutil.which(name, path="/usr/bin:/bin") for name in ("mount", "umount"))
    command = [mount or "", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if not (mount and umount) or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system, and Linux alone has tmpfs")
    filler = folder / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as opened:
            opened.write(bytes(max(0, shutil.disk_usage(folder).free - 1024 * kilobytes)))

    try:
        yield fill, filler.unlink
    finally:
        subprocess.run([str(umount), "-l", str(folder)], check=True)
