"""The processor and the memory of this machine."""

import platform
import subprocess
from pathlib import Path


def cpu_name() -> str:
    """The maker's name of the processor, or at least its architecture."""
    if found := _cpuinfo("model name"):
        return found
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def cpu_instructions() -> set[str]:
    """The processor's sets of instructions in Linux's words ("avx2"); empty where it is silent."""
    return set(_cpuinfo("flags").split())


def _cpuinfo(name: str) -> str:
    """A value of Linux's description of the first processor; "" where there is none."""
    if platform.system() == "Linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


PROCESS = Path("/proc/self")


def memory(name: str) -> int:
    """A value of Linux's status of this process, in bytes: "VmRSS" (resident), "VmHWM" (its peak).

    Raises OSError where there is none.
    """
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name}")


def reset_peak() -> None:
    """Measure the peak of the resident memory from here on. Raises OSError where Linux cannot."""
    (PROCESS / "clear_refs").write_text("5")
