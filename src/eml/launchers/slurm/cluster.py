"""Calls Slurm's commands: checks requests, reads the state of jobs, and cancels jobs."""

import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from time import sleep

from eml.errors import UserError
from eml.launchers.slurm.settings import PATIENCE, POLL_SECONDS, SECONDS_TO_ANSWER

JOB = re.compile(r"[0-9]+(_[0-9]+)?")  # the number of a job; a run's tag may hold any text


class ClusterError(UserError):
    """Slurm is missing, does not answer, or refuses a request."""


def refuse_if_absent() -> None:
    """Raise ClusterError if this machine has no Slurm."""
    if not all(shutil.which(command) for command in ("sbatch", "srun", "squeue")):
        raise ClusterError(
            "there is no Slurm here (sbatch, srun, squeue): use a machine of the cluster, or "
            "launcher=inline or launcher=local"
        )


def check(flags: Mapping[str, str | int | bool]) -> None:
    """Raise ClusterError if sbatch would reject a job with these flags."""
    refuse_if_absent()
    words = [f"--{name}" if v is True else f"--{name}={v}" for name, v in flags.items()]
    call("sbatch", "--test-only", *words, "--wrap=true")


def alive(jobs: Iterable[str]) -> dict[str, str]:
    """The waiting and running jobs among `jobs` ("1000", or "1000_3" of an array), and their state.

    The state is in words, such as "running on n1" or "pending (Priority)".
    """
    jobs = set(filter(JOB.fullmatch, jobs))
    # Ask for all jobs of the user: squeue fails for a job that it has forgotten.
    lines = call("squeue", "--me", "-h", "-r", "-o", "%i|%T|%R").splitlines() if jobs else []
    states = {}
    for job, state, why in (line.split("|", 2) for line in lines):
        # Why the job waits, such as "(Priority)"; for a running job its nodes.
        on = f"on {why}" if state == "RUNNING" else why.replace("(None)", "")
        states[job] = f"{state.lower()} {on}".strip()
    return {job: states[job] for job in jobs & states.keys()}


def outcome(job: str) -> str:
    """How a job ended, in Slurm's words, such as "CANCELLED" or "FAILED, exit code 1"."""
    if not JOB.fullmatch(job):
        return "this is not the number of a Slurm job"
    try:
        line = call("scontrol", "-o", "show", "job", job)
    except ClusterError:
        return "Slurm no longer remembers this job"  # which is so some minutes after its end
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    exit_code, _, signal_number = words["ExitCode"].partition(":")
    state = words["JobState"]
    if exit_code != "0":
        return f"{state}, exit code {exit_code}"
    return f"{state}, signal {signal_number}" if signal_number != "0" else state


def polls(jobs: Callable[[], Collection[str]]) -> Iterator[dict[str, str]]:
    """Yield the waiting and running jobs among jobs() again and again, with growing pauses.

    Raises ClusterError if Slurm does not answer during PATIENCE seconds of pauses.
    """
    seconds, longest = POLL_SECONDS
    refused = 0.0
    while True:
        try:
            living = alive(jobs())
        except ClusterError as error:
            refused += seconds
            if refused > PATIENCE:
                raise ClusterError(f"{error}; submitted jobs continue") from error
        else:
            refused = 0.0
            yield living
        sleep(seconds)
        seconds = min(1.2 * seconds, longest)


def call(*command: str) -> str:
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
