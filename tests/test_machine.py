"""The cores and the memory that this process may use."""

import os

import pytest

from eml import machine
from eml.machine import usable_cores


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
