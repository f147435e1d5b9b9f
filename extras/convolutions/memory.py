"""Memory that a call allocates besides its result, at its peak."""

import ctypes
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

PROCESS = Path("/proc/self")


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step; without glibc do nothing.

    By default glibc returns large buffers to the system, which fills them with zeros page by page
    at the next use.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    # glibc before 2.35 accepts at most 32 MiB; setting a threshold ends its own adjustment.
    if libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_threshold, 1 << 25):
        libc.mallopt(trim_threshold, 1 << 30)


def extra_bytes(call: Callable[[], Tensor], device: torch.device) -> float:
    """The peak of memory in use during a call, without its result and what was in use before.

    call: has run before, so that buffers which a library keeps for good do not count. On a CPU the
    resident memory of this process is measured, with what libraries allocate by themselves, and
    with what was freed during the call if its place was not used again; NaN where it cannot be (the
    peak is Linux's alone, and needs glibc).
    """
    peak_of = _on_a_gpu if device.type == "cuda" else _resident
    peak, result = peak_of(call, device)
    return max(0.0, peak - result.numel() * result.element_size())


def _on_a_gpu(call: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    return torch.cuda.max_memory_allocated(device) - before, result


def _resident(call: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    try:
        if platform.libc_ver()[0] != "glibc":
            raise OSError("malloc_trim is glibc's")
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that glibc keeps would hide new buffers
        (PROCESS / "clear_refs").write_text("5")  # the peak, VmHWM, begins anew
        before = _memory("VmRSS")
        result = call()
        return _memory("VmHWM") - before, result
    except OSError:
        return float("nan"), call()


def _memory(name: str) -> int:
    """Bytes, from a line of Linux's status of this process; OSError elsewhere."""
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name}")
