"""The settings of Slurm's jobs: options on the command line, or in a TOML file."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args

from eml.config import ConfigError

FILLED = 0.8  # share of a job's time to fill: estimates err, and a job needs time to start
DEFAULTS = {"slurm_time": 30, "slurm_cpus": 1, "slurm_array_parallelism": 100}
FLAGS = ("partition", "time", "cpus", "mem", "gres", "account", "qos", "constraint")


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Settings of each job; "" and 0 take the value of `slurm_file`, or else the default."""

    slurm_file: Annotated[str, "TOML file of slurm_ settings; absolute for `mlflow run`"] = ""
    slurm_partition: Annotated[str, "partition of the jobs"] = ""
    slurm_time: Annotated[int, "minutes a job may take; 30 if not given"] = 0
    slurm_cpus: Annotated[int, "cores of a job; 1 if not given"] = 0
    slurm_mem: Annotated[str, "memory of a job, as 5GB; the cluster's default if not given"] = ""
    slurm_gres: Annotated[str, "as gpu:1"] = ""
    slurm_array_parallelism: Annotated[int, "jobs at once; 100 if not given"] = 0
    slurm_pack_minutes: Annotated[
        int, f"of trainings that share a job, at most; {FILLED} of slurm_time if not given"
    ] = 0
    slurm_account: Annotated[str, "account of the jobs"] = ""
    slurm_qos: Annotated[str, "quality of service of the jobs"] = ""
    slurm_constraint: Annotated[str, "features that the jobs' nodes must have"] = ""
    slurm_setup: Annotated[str, "shell commands before Python; in the file a list"] = ""

    def resolved(self) -> "JobOptions":
        """The settings with the values of the file, or else the defaults, where none is given.

        Raises ConfigError for an invalid name or value, or a file that cannot be read.
        """
        kinds = {field.name: get_args(field.type)[0] for field in fields(JobOptions)}
        given = {name: value for name in kinds if (value := getattr(self, name))}
        file = given.pop("slurm_file", "")
        values = DEFAULTS | (_read(file) if file else {}) | given
        del kinds["slurm_file"]
        for name, value in values.items():
            if name not in kinds:
                valid = ", ".join(kinds)
                raise ConfigError(f"slurm_file={file}: no setting {name}: give some of {valid}")
            _check(name, value, kinds[name])
        return JobOptions(**values)

    @property
    def pack_seconds(self) -> float:
        """Largest expected duration of trainings that share a job, in seconds."""
        return 60 * (self.slurm_pack_minutes or FILLED * self.slurm_time)

    @property
    def warning_seconds(self) -> int:
        """Seconds from the signal to stop to the end of a job. Slurm may be a minute early."""
        return min(90, 15 * self.slurm_time)

    @property
    def flags(self) -> dict[str, str | int | bool]:
        """The flags of sbatch for these settings, without those of the array."""
        named = {name: getattr(self, f"slurm_{name}") for name in FLAGS}
        named["cpus-per-task"] = named.pop("cpus")
        return {k: v for k, v in named.items() if v} | {"requeue": True, "open-mode": "append"}

    @property
    def setup_lines(self) -> list[str]:
        """The shell commands before Python; a command that fails ends the job."""
        return ["set -e", *self.slurm_setup.splitlines(), "set +e"] if self.slurm_setup else []

    @property
    def has_gpu(self) -> bool:
        return any(part.startswith("gpu") for part in self.slurm_gres.split(","))


def _read(file: str) -> dict[str, Any]:
    """The content of a TOML file of settings."""
    try:
        content = tomllib.loads(Path(file).expanduser().read_text())
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"slurm_file={file}: {reason}") from error
    setup = content.get("slurm_setup", [])
    if not isinstance(setup, list) or not all(isinstance(command, str) for command in setup):
        raise ConfigError(f"slurm_file={file}: slurm_setup = {setup!r}: give a list of texts")
    return content | {"slurm_setup": "\n".join(setup)}


def _check(name: str, value: Any, kind: type) -> None:
    """Raise ConfigError if a setting has an invalid value."""
    if kind is int:
        lowest = 0 if name == "slurm_pack_minutes" else 1
        valid = type(value) is int and value >= lowest
        words = f"a whole number, {lowest} or more"
    else:  # a newline would add a command to the job's script, a blank a flag of sbatch
        is_word = isinstance(value, str) and value.isprintable() and " " not in value
        valid, words = is_word or name == "slurm_setup", "a text without blanks"
    if not valid:
        raise ConfigError(f"{name}={value!r}: give {words}")
