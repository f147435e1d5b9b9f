"""The cores, the memory and the GPU that this process may use."""

import os
import re
import warnings
from dataclasses import replace

import pytest
import torch

from eml import machine
from eml.config import resolve_device
from eml.errors import UserError
from eml.launchers.base import Task
from eml.launchers.worker import perform
from eml.machine import explain_gpu, usable_cores
from support.commands import config_of, stored_runs


def system(folder, groups: str, files: dict[str, str]):
    """Linux's /proc and /sys as far as they are read."""
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


V1 = "sys/fs/cgroup/cpu/jobs/7"
V2 = "sys/fs/cgroup/user.slice/session"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000\n"}, 8),  # what no kernel writes: no limit
        # The limit of a group above counts, too.
        ("0::/user.slice/session\n", {f"{V2}/cpu.max": "max 1000", f"{V2}/../cpu.max": "2 1"}, 2),
        ("0::/missing/here\n", {"sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ("4:memory:/a\n3:cpu,cpuacct:/jobs/7\n", {}, 8),
        (
            "3:cpu,cpuacct:/jobs/7\n0::/\n",
            {f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        (
            "3:cpu,cpuacct:/jobs/7\n",
            {f"{V1}/cpu.cfs_quota_us": "200000\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            2,
        ),
    ],
)
def test_a_quota_limits_the_cores(groups, files, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / V2).mkdir(parents=True)
    assert usable_cores(system(tmp_path, groups, files)) == cores


def test_hyper_threads_count_once_and_the_affinity_counts(tmp_path, monkeypatch):
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = {siblings.format(n): f"{n % 4},{n % 4 + 4}\n" for n in range(8)}
    root = system(tmp_path, "0::/\n", files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores(root) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5})
    assert usable_cores(root) == 2


def test_memory_limits_the_workers(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)

    class Memory:
        available = 3.2e9

    monkeypatch.setattr(machine.psutil, "virtual_memory", Memory)
    assert machine.worker_count(10) == 2
    Memory.available = 1e9
    assert machine.worker_count(10) == 1
    Memory.available = 1e12
    assert machine.worker_count(10) == 4
    assert machine.worker_count(3) == 3


SMI = "580.95.05\n580.95.05\n"
OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12080). "
    "Please update your GPU driver. (Triggered internally at CUDAFunctions.cpp:119.)"
)
BROKEN = "CUDA initialization: CUDA unknown error (Triggered internally at CUDAFunctions.cpp:1.)"
KERNELS = "sm_75 sm_80 sm_86 sm_90a sm_120"


@pytest.mark.parametrize(
    ("cuda", "driver", "failure", "capability", "kernels", "reason"),
    [
        ("13.0", "", "", (8, 0), KERNELS, ""),
        ("13.0", "", "", (8, 9), KERNELS, ""),  # sm_86, which is not in the list as sm_89
        ("13.0", "", "", (8, 6), "sm_80", ""),
        ("13.0", "", "", (9, 0), KERNELS, ""),
        ("13.0", "", "", (12, 1), KERNELS, ""),
        ("13.0", "", "", (10, 3), "sm_75 compute_90", ""),  # PTX is compiled
        (
            "13.0",
            "",
            "",
            (8, 9),
            "compute_90",
            "for compute_90, the GPU has compute capability 8.9:",
        ),
        ("13.0", "", "", (7, 0), KERNELS, f"for {KERNELS}, the GPU has compute capability 7.0: "),
        ("12.6", "", "", (8, 0), "sm_86", "for sm_86, the GPU has compute capability 8.0: install"),
        ("12.6", "", "", (12, 0), "sm_90", "for sm_90, the GPU has compute capability 12.0: "),
        ("", "", "", (9, 4), "gfx90a gfx942", ""),  # an AMD GPU
        (
            "",
            SMI,
            "",
            (0, 0),
            "",
            "2.14.1 is built for the CPU, the GPU has driver 580.95.05: install",
        ),
        ("", "No devices were found\n", "", (0, 0), "", ""),
        ("", "", "", (0, 0), "", ""),
        ("13.0", "", "", (0, 0), "", ""),
        (
            "13.0",
            "",
            OLD,
            (0, 0),
            "",
            "2.14.1 needs CUDA 13.0, the driver has 12.8: update the",
        ),
        ("13.0", "", BROKEN, (0, 0), "", "CUDA initialization: CUDA unknown error"),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_explained(
    cuda, driver, failure, capability, kernels, reason
):
    line = explain_gpu("2.14.1", cuda, driver, failure, capability, kernels)
    assert reason in line
    assert bool(line) == bool(reason)
    assert "\n" not in line


def test_a_mac_computes_on_its_cpu(monkeypatch):
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert explain_gpu("2.14.1", "", "", "", (0, 0), "") == "a Mac computes on its CPU"


def old_driver(monkeypatch, _):
    def is_available():
        warnings.warn(OLD, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def old_gpu(monkeypatch, _):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])


def cpu_build(monkeypatch, folder):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho 580.95.05\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def no_gpu_known():
    """What was found out about the GPU is forgotten, before and after."""
    machine.gpu_obstacle.cache_clear()
    machine.print_once.cache_clear()
    yield
    machine.gpu_obstacle.cache_clear()


@pytest.mark.parametrize(
    ("made_up", "reason"),
    [
        (old_driver, "needs CUDA 13.0, the driver has 12.8: update the driver, or install"),
        (old_gpu, "has kernels for sm_75 sm_80, the GPU has compute capability 7.0: install"),
        (cpu_build, "is built for the CPU, the GPU has driver 580.95.05: install another build"),
    ],
)
def test_cuda_is_refused_and_auto_takes_the_cpu_with_the_reason(
    made_up, reason, no_gpu_known, monkeypatch, tmp_path, capsys
):
    made_up(monkeypatch, tmp_path)
    with pytest.raises(
        UserError, match=re.escape(f"device=cuda: PyTorch {torch.__version__} {reason}")
    ):
        resolve_device("cuda")
    assert [resolve_device("auto"), resolve_device("auto")] == ["cpu", "cpu"]
    (line,) = capsys.readouterr().out.splitlines()
    assert f"device=cpu, because PyTorch {torch.__version__} {reason}" in line


def test_a_gpu_that_pytorch_can_use_is_taken(no_gpu_known, monkeypatch, tmp_path, capsys):
    old_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    assert [resolve_device("auto"), resolve_device("cuda")] == ["cuda", "cuda"]
    assert capsys.readouterr().out == ""


def test_a_job_on_a_gpu_that_pytorch_cannot_use_fails_with_the_reason_before_its_first_step(
    no_gpu_known, small_data, store, monkeypatch, tmp_path
):
    old_gpu(monkeypatch, tmp_path)
    config = replace(config_of("mlp_torch", epochs=1, device="cpu"), device_type="cuda")
    assert "the GPU has compute capability 7.0: install" in perform(Task(config=config)).reason
    (run,) = stored_runs(store)
    assert (run.info.status, run.data.metrics) == ("FAILED", {})
    assert "the GPU has compute capability 7.0: install" in run.data.tags["error"]
