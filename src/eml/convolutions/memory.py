"""Memory that a call allocates besides its result, at its peak."""

import ctypes
import platform
from collections.abc import Callable

import torch
from torch import Tensor

from eml.hardware import memory, reset_peak


def extra_bytes(call: Callable[[], Tensor], device: torch.device) -> float:
    """The peak of memory in use during a call, without its result and what was in use before.

    call: has run before, so that buffers which a library keeps for good do not count. On a CPU the
    resident memory of this process is measured, with what libraries allocate by themselves, and
    with what was freed during the call if its place was not used again; NaN where it cannot be (the
    peak is Linux's alone, and needs glibc).
    """
    measure = _on_a_gpu if device.type == "cuda" else _resident
    peak, result = measure(call, device)
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
        reset_peak()
        before = memory("VmRSS")
        result = call()
        return memory("VmHWM") - before, result
    except OSError:
        return float("nan"), call()
