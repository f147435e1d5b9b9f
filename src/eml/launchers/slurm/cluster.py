"""Slurm's own commands: what has become of jobs, and how to end them."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from time import sleep
from typing import NamedTuple

from eml.errors import UserError

SECONDS_TO_ANSWER = 60
POLL_SECONDS = 1.0, 10.0  # between two questions to Slurm: at first, at most
PATIENCE = 600  # seconds in which Slurm may not answer, while its controller is restarted, say
JOB = re.compile(r"[0-9]+(_[0-9]+)?")  # a job's number; a tag that is to hold one may hold anything
ALIVE = "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"


class ClusterError(UserError):
    """Slurm is not here, does not answer, or refuses what was asked of it."""


class Alive(NamedTuple):
    """A job that waits or runs."""

    state: str  # Slurm's, as PENDING
    why: str  # "(Priority)": why it waits; or the nodes that it runs on

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
            "there is no Slurm here (sbatch, srun, squeue): give the command on a machine of the "
            "cluster, or a training another launcher, inline or local"
        )


def check(flags: Mapping[str, str | int | bool]) -> None:
    """Raise ClusterError if sbatch would not take a job with these flags."""
    refuse_if_absent()
    given = [f"--{name}" if v is True else f"--{name}={v}" for name, v in flags.items()]
    try:
        _call("sbatch", "--test-only", *given, "--wrap=true")
    except ClusterError as error:
        raise ClusterError(f"{error} (asked for {' '.join(given)})") from error


def alive(jobs: Iterable[str]) -> dict[str, Alive]:
    """Those of these jobs ("1000", or "1000_3" of an array) that wait or run."""
    jobs = set(filter(JOB.fullmatch, jobs))  # not of a run that was never in a job
    if not jobs:
        return {}
    # All of this user's: asked for a job that it has forgotten, squeue fails.
    lines = _call("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i|%T|%R").splitlines()
    found = {}
    for line in lines:
        job, state, why = line.split("|", 2)
        if job in jobs:
            found[job] = Alive(state, "" if why == "(None)" else why)
    for job in jobs - found.keys():  # another user's may be alive too
        state, _ = _shown(job)
        if state in ALIVE:
            found[job] = Alive(state, "")
    return found


def outcome(job: str) -> str:
    """How a job has ended, in Slurm's words: "CANCELLED", "FAILED, exit code 1"."""
    if not JOB.fullmatch(job):
        return "this is no job of Slurm"
    state, code = _shown(job)
    if not state:  # it remembers for minutes only; its accounting, if the cluster has one, longer
        try:
            line = _call("sacct", "-n", "-X", "-P", "-o", "State,ExitCode", "-j", job)
            state, code = line.splitlines()[-1].split("|")
        except (ClusterError, IndexError, ValueError):
            return "Slurm does not remember it any more"
    exit_code, _, signal_number = code.partition(":")
    if exit_code != "0":
        return f"{state}, exit code {exit_code}"
    return f"{state}, signal {signal_number}" if signal_number != "0" else state


def _shown(job: str) -> tuple[str, str]:
    """A job's state and exit code; "" if Slurm's controller has forgotten it."""
    try:
        shown = _call("scontrol", "-o", "show", "job", job)
    except ClusterError:
        return "", ""
    found = re.search(r"JobState=(\S+)", shown), re.search(r"ExitCode=(\S+)", shown)
    return found[0][1] if found[0] else "", found[1][1] if found[1] else ""


def cancel(jobs: Iterable[str]) -> None:
    """End these jobs."""
    _call("scancel", *jobs)


def polls(jobs: Collection[str]) -> Iterator[dict[str, Alive]]:
    """Those of the jobs that are alive, again and again, with growing pauses."""
    seconds, longest = POLL_SECONDS
    refused = 0.0
    while True:
        try:
            living = alive(jobs)
        except ClusterError as error:
            refused += seconds
            if refused > PATIENCE:
                raise ClusterError(f"{error}; what is submitted goes on") from error
        else:
            refused = 0.0
            yield living
        sleep(seconds)
        seconds = min(1.2 * seconds, longest)


def wait_for(jobs: Collection[str]) -> None:
    """Until they are over."""
    for living in polls(jobs):
        if not living:
            return


def _call(*command: str) -> str:
    """What it prints. Raises ClusterError with its complaints in a line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line.removeprefix(f"{command[0]}: error: ") for line in done.stderr.splitlines()]
        complaint = "; ".join(filter(None, lines)) or f"exit code {done.returncode}"
        raise ClusterError(f"{command[0]}: {complaint}")
    return done.stdout
