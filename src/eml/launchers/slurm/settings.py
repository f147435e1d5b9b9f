"""The settings of Slurm's jobs, as options or in a TOML file, and the launcher's own numbers."""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args

from eml.config import ConfigError

DEFAULTS: dict[str, Any] = {"slurm_time": "30", "slurm_cpus": 1, "slurm_array_parallelism": 100}
# What eml sets, and what hides the number of a job or begins its training twice.
NOT_IN_FLAGS = """array cpus-per-task error export gpus-per-task gres job-name mem no-requeue nodes
ntasks-per-node open-mode output parsable partition quiet requeue signal test-only time wait wrap"""
REQUEUES = 1_000_000  # no limit on the requeues of a job: Job gives up what makes no progress
WARNING_SECONDS = 90  # from the signal to stop to the end of a job; Slurm may be a minute early
SECONDS_TO_ANSWER = 60  # time limit of a command of Slurm
POLL_SECONDS = 1.0, 30.0  # pauses between questions to Slurm: the first, the longest
PATIENCE = 600  # seconds to wait for an answer, because Slurm's controller may be restarting


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Settings of each job; "" and 0 take the value of `slurm_file`, or else the default."""

    slurm_file: Annotated[str, "TOML file of slurm_ settings; absolute for `mlflow run`"] = ""
    slurm_partition: Annotated[str, "partition of the jobs"] = ""
    slurm_time: Annotated[str, "minutes a job may take, or as 2:30:00; 30 if not given"] = ""
    slurm_cpus: Annotated[int, "cores of a job; 1 if not given"] = 0
    slurm_mem: Annotated[str, "memory of a job, as 5GB; the cluster's default if not given"] = ""
    slurm_gres: Annotated[str, "as gpu:1"] = ""
    slurm_array_parallelism: Annotated[int, "jobs at once; 100 if not given"] = 0
    slurm_flags: Annotated[str, "other flags of sbatch: --reservation=NAME --mail-type=END"] = ""
    slurm_setup: Annotated[str, "shell commands before Python; in the file a list"] = ""

    def resolved(self) -> "JobOptions":
        """The settings with the values of the file, or else the defaults, where none is given.

        Raises ConfigError for an invalid name or value, or a file that cannot be read.
        """
        kinds = {f.name: get_args(f.type)[0] for f in fields(JobOptions) if f.name != "slurm_file"}
        options = {name: value for name in kinds if (value := getattr(self, name))}
        in_file = _read(self.slurm_file) if self.slurm_file else {}
        if unknown := in_file.keys() - kinds:
            raise ConfigError(
                f"slurm_file={self.slurm_file}: no setting {', '.join(sorted(unknown))}: give some "
                f"of {', '.join(kinds)}"
            )
        values = DEFAULTS | in_file | options
        if type(values["slurm_time"]) is int:  # in the file
            values["slurm_time"] = str(values["slurm_time"])
        for name, value in values.items():
            if type(value) is not kinds[name] or (kinds[name] is int and value < 1):
                words = "a whole number, 1 or more" if kinds[name] is int else "a text"
                raise ConfigError(f"{name}={value!r}: give {words}")
        if _seconds(values["slurm_time"]) < 60:
            raise ConfigError(
                f"slurm_time={values['slurm_time']}: give minutes, 1 or more, or a time as Slurm "
                "takes it: 30:00, 2:30:00, 1-12:00:00"
            )
        _flags(values.get("slurm_flags", ""))
        return JobOptions(**values)

    @property
    def seconds(self) -> int:
        """Time limit of a job, in seconds."""
        return _seconds(self.slurm_time)

    @property
    def flags(self) -> dict[str, str | int | bool]:
        """The flags of sbatch for these settings, without those of the array."""
        named = {"partition": self.slurm_partition, "mem": self.slurm_mem, "gres": self.slurm_gres}
        own = {"cpus-per-task": self.slurm_cpus, "time": self.seconds // 60, "requeue": True}
        flags = {name: value for name, value in named.items() if value} | own
        return flags | {"open-mode": "append"} | _flags(self.slurm_flags)


def _flags(text: str) -> dict[str, str | bool]:
    """The flags of sbatch in a text, by name; True for a flag without a value."""
    flags: dict[str, str | bool] = {}
    for word in text.split():
        name, equals, value = word.removeprefix("--").partition("=")
        if not re.fullmatch(r"--[a-z][a-z-]+(=.+)?", word):
            raise ConfigError(f"slurm_flags: {word} is no flag: give --name=value, or --name")
        if any(own.startswith(name) for own in NOT_IN_FLAGS.split()):  # sbatch abbreviates
            raise ConfigError(f"slurm_flags: eml sets --{name} itself, or by an option slurm_...")
        flags[name] = value if equals else True
    return flags


def _seconds(time: str) -> int:
    """Seconds of a time as sbatch takes it, such as "30", "30:00", "2:30:00"; 0 if it is none."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?", time, re.ASCII)
    days, *parts = match.groups() if match else ("0",)
    numbers = [int(part) for part in parts if part]
    # The first number is hours where days or all three are given, else minutes.
    first = 3600 if days or len(numbers) == 3 else 60
    return 86400 * int(days or 0) + sum(int(n * first / 60**i) for i, n in enumerate(numbers))


def _read(file: str) -> dict[str, Any]:
    """The settings in a TOML file; `slurm_setup` is a list there."""
    try:
        values = tomllib.loads(Path(file).expanduser().read_text())
        setup = values.get("slurm_setup", "")
        return values | {"slurm_setup": setup if isinstance(setup, str) else "\n".join(setup)}
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"slurm_file={file}: {reason}") from error
