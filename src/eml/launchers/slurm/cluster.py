"""Calls Slurm's commands: checks requests, reads the state of jobs, and cancels jobs."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from time import sleep
from typing import NamedTuple

from eml.errors import UserError

SECONDS_TO_ANSWER = 60
POLL_SECONDS = 1.0, 10.0  # pauses between questions to Slurm: the first, the longest
PATIENCE = 600  # seconds to wait for an answer, because Slurm's controller may be restarting
JOB = re.compile(r"[0-9]+(_[0-9]+)?")  # the number of a job; a run's tag may hold any text
ALIVE = "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"


class ClusterError(UserError):
    """Slurm is missing, does not answer, or refuses a request."""


class LiveJob(NamedTuple):
    """A job that waits or runs."""

    state: str  # Slurm's word, such as PENDING
    why: str  # why the job waits, such as "(Priority)"; for a running job its nodes

    def __str__(self) -> str:
        on = f"on {self.why}" if self.state == "RUNNING" else self.why
        return f"{self.state.lower()} {on}".strip()


def is_here() -> bool:
    """Whether this machine has Slurm's commands."""
    return all(shutil.which(command) for command in ("sbatch", "srun", "squeue"))


def refuse_if_absent() -> None:
    """Raise ClusterError if this machine has no Slurm."""
    if not is_here():
        raise ClusterError(
            "there is no Slurm here (sbatch, srun, squeue): use a machine of the cluster, or "
            "launcher=inline or launcher=local"
        )


def check(flags: Mapping[str, str | int | bool]) -> None:
    """Raise ClusterError if sbatch would reject a job with these flags."""
    refuse_if_absent()
    words = [f"--{name}" if v is True else f"--{name}={v}" for name, v in flags.items()]
    try:
        _call("sbatch", "--test-only", *words, "--wrap=true")
    except ClusterError as error:
        raise ClusterError(f"{error} (asked for {' '.join(words)})") from error


def alive(jobs: Iterable[str]) -> dict[str, LiveJob]:
    """The waiting and running jobs among `jobs` ("1000", or "1000_3" of an array)."""
    jobs = set(filter(JOB.fullmatch, jobs))  # a run's tag may hold other text
    if not jobs:
        return {}
    # Ask for all jobs of this user: squeue fails for a job that it has forgotten.
    lines = _call("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i|%T|%R").splitlines()
    found = {}
    for line in lines:
        job, state, why = line.split("|", 2)
        if job in jobs:
            found[job] = LiveJob(state, "" if why == "(None)" else why)
    for job in jobs - found.keys():  # maybe jobs of another user
        state, _ = _shown(job)
        if state in ALIVE:
            found[job] = LiveJob(state, "")
    return found


def outcome(job: str) -> str:
    """How a job ended, in Slurm's words, such as "CANCELLED" or "FAILED, exit code 1"."""
    if not JOB.fullmatch(job):
        return "this is not the number of a Slurm job"
    state, code = _shown(job)
    if not state:  # the controller forgets jobs after minutes; accounting keeps them, if used
        try:
            line = _call("sacct", "-n", "-X", "-P", "-o", "State,ExitCode", "-j", job)
            state, code = line.splitlines()[-1].split("|")
        except (ClusterError, IndexError, ValueError):
            return "Slurm no longer remembers this job"
    exit_code, _, signal_number = code.partition(":")
    if exit_code != "0":
        return f"{state}, exit code {exit_code}"
    return f"{state}, signal {signal_number}" if signal_number != "0" else state


def _shown(job: str) -> tuple[str, str]:
    """State and exit code of a job; "" if Slurm's controller has forgotten the job."""
    try:
        shown = _call("scontrol", "-o", "show", "job", job)
    except ClusterError:
        return "", ""
    found = re.search(r"JobState=(\S+)", shown), re.search(r"ExitCode=(\S+)", shown)
    return found[0][1] if found[0] else "", found[1][1] if found[1] else ""


def cancel(jobs: Iterable[str]) -> None:
    """End these jobs."""
    _call("scancel", *jobs)


def polls(jobs: Collection[str]) -> Iterator[dict[str, LiveJob]]:
    """Yield the waiting and running jobs among `jobs` again and again, with growing pauses.

    Raises ClusterError if Slurm does not answer during PATIENCE seconds of pauses.
    """
    seconds, longest = POLL_SECONDS
    refused = 0.0
    while True:
        try:
            living = alive(jobs)
        except ClusterError as error:
            refused += seconds
            if refused > PATIENCE:
                raise ClusterError(f"{error}; submitted jobs continue") from error
        else:
            refused = 0.0
            yield living
        sleep(seconds)
        seconds = min(1.2 * seconds, longest)


def _call(*command: str) -> str:
    """The output of a command. Raises ClusterError with the command's errors in one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line.removeprefix(f"{command[0]}: error: ") for line in done.stderr.splitlines()]
        complaint = "; ".join(filter(None, lines)) or f"exit code {done.returncode}"
        raise ClusterError(f"{command[0]}: {complaint}")
    return done.stdout
