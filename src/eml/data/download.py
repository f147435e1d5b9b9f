"""Downloads over HTTP that resume, give up on slow servers, and show progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import requests
import urllib3
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

CHUNK = 1 << 16  # bytes


class DownloadError(Exception):
    """A source failed to deliver a file; the message is the reason, in a line."""


@dataclass(frozen=True)
class Limits:
    """The limits of a download; beyond them the next source is tried."""

    timeout: float = 20.0  # seconds without a connection, or without a byte
    min_rate: float = 200e3  # bytes per second, on average over `window`
    window: float = 20.0  # seconds
    total: float = 1800.0  # seconds for one file
    largest: float = 200e6  # bytes; every file of the datasets is smaller


def download(url: str, target: Path, limits: Limits) -> None:
    """Download `url` to `target`, which appears only when it is complete.

    Resumes a partial file (`target` + ".part") of an earlier attempt if the server allows it.

    Raises DownloadError if the server refuses, is silent or slower than `limits` allow, or if the
    file is too large.
    """
    part = target.with_name(target.name + ".part")
    try:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        # "identity": uncompressed bytes, so that a partial file can be resumed.
        headers["Accept-Encoding"] = "identity"
        with requests.get(url, headers=headers, stream=True, timeout=limits.timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()  # the partial file is too long to resume
                return download(url, target, limits)
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0  # the server sends the whole file
            length = int(response.headers.get("Content-Length", 0))
            total = have + length if length else None
            with part.open("ab" if have else "wb") as file, _bar(url, have, total) as advance:
                received = _copy(response, file, advance, limits, have)
            if length and received != length:
                raise DownloadError(f"broke off after {have + received} of {total} bytes")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise DownloadError(_reason(error)) from error
    part.replace(target)


def _copy(response, file, advance: Callable[[int], None], limits: Limits, have: int) -> int:
    """Append the response to `file`, which holds `have` bytes; return the bytes written."""
    received = 0
    started = window_started = monotonic()
    window_bytes = 0
    # read1 returns the bytes that have arrived; iter_content would wait for a whole chunk and never
    # notice a server that sends single bytes.
    while chunk := response.raw.read1(CHUNK):
        file.write(chunk)
        advance(len(chunk))
        received += len(chunk)
        window_bytes += len(chunk)
        if have + received > limits.largest:
            file.truncate(0)  # an error page is no partial file
            raise DownloadError(f"has more than {limits.largest / 1e6:.0f} MB")
        now = monotonic()
        if now - started > limits.total:
            raise DownloadError(f"not complete after {limits.total:.0f} s")
        if now - window_started > limits.window:
            rate = window_bytes / (now - window_started)
            if rate < limits.min_rate:
                raise DownloadError(
                    f"too slow: {rate / 1e3:.0f} kB/s, less than {limits.min_rate / 1e3:.0f} kB/s "
                    f"over {limits.window:g} s"
                )
            window_started, window_bytes = now, 0
    return received


@contextmanager
def _bar(url: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, one line elsewhere; yields the function to advance it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        size = f" ({total / 1e6:.0f} MB)" if total else ""
        print(f"downloading {url}{size}", flush=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(url.rpartition("/")[2], completed=have, total=total)
        yield lambda count: progress.advance(task, count)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return "no connection, or it broke off"
