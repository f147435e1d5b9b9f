"""This machine and this process: processor, cores, environment variables, signals."""

import math
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import sleep
from types import FrameType
from typing import TextIO

import psutil

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DISTURBED = 1.5  # slowdown of an epoch, by other processes, that is worth a warning
WORKER_BYTES = 1.5e9  # memory of a worker process; the CNN on CIFAR-10 takes 1.2e9
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REQUEUE = signal.SIGUSR2  # tells a cluster's job to stop and be requeued; submitit's choice
SHELLS = {"bash", "sh", "dash", "zsh", "ksh", "fish", "cmd.exe"}
POLL_SECONDS = 0.5
print_once = cache(print)
GIVEN_RUN = "MLFLOW_RUN_ID"  # the environment variable by which `mlflow run` gives its run


def cpu_name() -> str:
    """The maker's name of the processor, or at least its architecture."""
    if name := _cpuinfo("model name"):
        return name
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def hardware(device_type: str) -> str:
    """The name of the processor, or of the GPU ("cuda")."""
    if device_type == "cpu":
        return cpu_name()
    import torch  # takes seconds

    return torch.cuda.get_device_name()


@cache
def gpu_obstacle() -> str | None:
    """None if PyTorch can use a GPU here; else the reason, or "" if there is no GPU."""
    import torch  # takes seconds

    driver, capability, kernels = "", (0, 0), ""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with warnings.catch_warnings(record=True, action="always") as caught:
        if torch.cuda.is_available():
            capability = torch.cuda.get_device_capability()
            kernels = " ".join(torch.cuda.get_arch_list())
    with suppress(OSError):  # there is no nvidia-smi
        if not torch.version.cuda:  # then PyTorch does not look for a GPU
            driver = subprocess.run(asked, capture_output=True, text=True).stdout
    failure = str(caught[-1].message) if caught and not any(capability) else ""
    cuda = torch.version.cuda or ""
    reason = explain_gpu(torch.__version__, cuda, driver, failure, capability, kernels)
    return reason or (None if any(capability) else "")


def explain_gpu(
    pytorch: str, cuda: str, driver: str, failure: str, capability: tuple[int, int], kernels: str
) -> str:
    """Why PyTorch cannot use the GPU, and the way out; "" if it can, or if there is no GPU.

    pytorch, cuda: versions. driver: the answer of nvidia-smi, asked of a build without CUDA alone.
    failure: PyTorch's warning. kernels: of PyTorch, such as "sm_80 compute_90".
    """
    remedy = "install another build of PyTorch (https://pytorch.org/get-started/locally)"
    if platform.system() == "Darwin":
        return "a Mac computes on its CPU"
    if version := re.match(r"\d[\d.]+", driver):
        return f"PyTorch {pytorch} is built for the CPU, the GPU has driver {version[0]}: {remedy}"
    if old := re.search(r"too old \(found version (\d+)0(\d)0\)", failure):
        remedy = f"update the driver, or {remedy}"
        return f"PyTorch {pytorch} needs CUDA {cuda}, the driver has {old[1]}.{old[2]}: {remedy}"
    codes = re.findall(r"(sm|compute)_(\d+)(\d)", kernels)  # none for an AMD GPU
    # PTX ("compute_90") serves all later GPUs, other kernels those of their major version.
    if codes and not any(
        (int(major), int(minor)) <= capability and (kind != "sm" or int(major) == capability[0])
        for kind, major, minor in codes
    ):
        here = "the GPU has compute capability {}.{}".format(*capability)
        return f"PyTorch {pytorch} has kernels for {kernels}, {here}: {remedy}"
    return failure.partition(" (Triggered")[0]


def cpu_instructions() -> set[str]:
    """The processor's sets of instructions in Linux's words ("avx2"); empty elsewhere."""
    return set(_cpuinfo("flags").split())


def _cpuinfo(name: str) -> str:
    """A value of Linux's description of the first processor; "" where there is none."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def usable_cores(system: Path = Path("/")) -> int:
    """The cores that this process may use: the smaller of its affinity and its CPU quota.

    The hyper-threads of a core count once. system: the root of Linux's /proc and /sys.
    """
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return psutil.cpu_count(logical=False) or 1
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_read(system / topology.format(n)) or n for n in os.sched_getaffinity(0)}
    quotas = [
        int(limit[0]) / int(limit[1])
        for limit in _limits(system, "cpu", "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
        if len(limit) == 2 and all(map(str.isdecimal, limit))  # not "max" or -1
    ]
    return max(1, math.floor(min([len(cores), *quotas])))


def worker_count(trainings: int) -> int:
    """Number of trainings to carry out at once with one thread each; fewer if memory is scarce."""
    limits = _limits(Path("/"), "memory", "memory.max", "memory.limit_in_bytes")
    bounds = [int(limit[0]) for limit in limits if limit and limit[0].isdecimal()]
    free = min([psutil.virtual_memory().available, *bounds])
    return max(1, min(trainings, usable_cores(), int(free / WORKER_BYTES)))


def _limits(system: Path, controller: str, *files: str) -> Iterator[list[str]]:
    """The words of a limit, for this process's control group and all groups above it.

    files: those of both versions of Linux's control groups; a group has those of one version.
    """
    for line in _read(system / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = system / "sys/fs/cgroup" / (controller if controllers else "")
        group = root / path.lstrip("/")  # in a container it may be missing: then its root counts
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield [word for name in files for word in _read(folder / name).split()]


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def threads_in_environment() -> int:
    """The number of threads that the user's environment variables ask for; 0 if none does."""
    for name in THREAD_VARIABLES:
        number = os.environ.get(name, "").partition(",")[0]
        if number.isdecimal() and int(number) > 0:
            return int(number)
    return 0


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables within the context, also for processes started there."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def given_run_id() -> str:
    """The id of the run that `mlflow run` made for this process; "" without one, or once taken."""
    return os.environ.get(GIVEN_RUN, "")


class Stopped(BaseException):
    """A signal arrived. Not an Exception, so that only the end of a run handles it."""

    epoch = 0  # after which the same command goes on, if it has one training

    def __init__(self, signal_number: int, why: str = "") -> None:
        super().__init__(why or signal.Signals(signal_number).name)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class Deferred(Stopped):
    """Raised instead of Stopped when the work continues elsewhere: the run ends SCHEDULED."""


def raise_on_signals(in_job: bool = False) -> None:
    """Make the first of SIGNALS raise Stopped in the main thread; SIGHUP not under `nohup`.

    So does standard output that cannot be written (`| head -1`), except in a job.

    Later signals are ignored: `mlflow run` answers Ctrl-C with a SIGTERM to its child, which would
    otherwise interrupt the closing of the run.

    in_job: whether the signal REQUEUE raises Deferred, as a job of a cluster needs it.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for other in handled:
            signal.signal(other, lambda *_: None)  # SIG_IGN would warn of signals on their way
        raise Deferred(number) if number == REQUEUE else Stopped(number)

    handled = (*SIGNALS, REQUEUE) if in_job else SIGNALS
    for number in handled:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    for stream in () if in_job else filter(None, (sys.stdout, sys.stderr)):
        for name in ("write", "flush"):
            _watch(stream, name, stops=stream is sys.stdout)


def _watch(stream: TextIO, name: str, stops: bool) -> None:
    """Make this method of a stream raise Stopped where it would fail, or do nothing."""
    method = getattr(stream, name)

    def call(*arguments: str) -> None:
        try:
            method(*arguments)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stops:
                raise Stopped(signal.SIGPIPE, "output closed") from None

    setattr(stream, name, call)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back until the end of this context. Also a decorator.

    For work that must not stop half done: an exception in the middle of a write to SQLite keeps the
    lock as long as the traceback lives, and then the run cannot be closed.
    """
    came: list[int] = []
    former = {number: signal.getsignal(number) for number in (*SIGNALS, REQUEUE)}
    for number in former:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def stop_with_parent() -> None:
    """Send SIGTERM to this process when the process that started it has died.

    For a child of `mlflow run`, which passes no signal on when it is killed. Shells in between are
    skipped, because they wait for this process.
    """
    owner = next((p for p in psutil.Process().parents() if p.name() not in SHELLS), None)
    if owner is None:
        return

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
                sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
