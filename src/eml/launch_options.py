"""The options of launching trainings, and the settings of Slurm jobs."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_origin, get_type_hints

from eml.config import AUTO, STORES, ConfigError, one_of

PREFIX = "slurm_"
MOST = 1024  # jobs, or threads of a training
FILLED = 0.8  # share of a job's time to fill: estimates err, and a job needs time to start


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """Settings of each Slurm job. As options and in a file their names begin with "slurm_"."""

    partition: str = ""  # "" here and below: the default of the cluster
    time: int = 30  # minutes
    cpus: int = 1
    mem: str = ""
    gres: str = ""
    array_parallelism: int = 100  # largest number of jobs at once
    pack_minutes: int = 0  # of trainings that share a job; 0: fill the job
    account: str = ""
    qos: str = ""
    constraint: str = ""
    setup: list[str] = dataclasses.field(default_factory=list)  # shell commands before Python

    def __post_init__(self):
        for name in ("time", "cpus", "array_parallelism"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{PREFIX}{name}={getattr(self, name)}: give 1 or more")
        for name in ("partition", "mem", "gres", "account", "qos", "constraint"):
            value = getattr(self, name)
            # A newline would add a command to the job's script, a blank a flag of sbatch.
            if not value.isprintable() or " " in value:
                raise ConfigError(f"{PREFIX}{name}={value}: give a text without blanks")
        if self.pack_minutes < 0:
            raise ConfigError(f"{PREFIX}pack_minutes={self.pack_minutes}: give 0 or more")

    @property
    def pack_seconds(self) -> float:
        """Largest expected duration of trainings that share a job, in seconds."""
        return 60 * (self.pack_minutes or FILLED * self.time)

    @property
    def warning_seconds(self) -> int:
        """Seconds from the signal to stop to the end of a job. Slurm may be a minute early."""
        return min(90, 15 * self.time)

    @property
    def flags(self) -> dict[str, str | int | bool]:
        """The flags of sbatch for these settings, without those of the array."""
        asked: dict[str, str | int | bool] = {
            "partition": self.partition,
            "time": self.time,
            "cpus-per-task": self.cpus,
            "mem": self.mem,
            "gres": self.gres,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "requeue": True,
            "open-mode": "append",
        }
        return {name: value for name, value in asked.items() if value}

    @property
    def setup_lines(self) -> list[str]:
        """The shell commands before Python; a command that fails ends the job."""
        return ["set -e", *self.setup, "set +e"] if self.setup else []

    @property
    def has_gpu(self) -> bool:
        return any(part.startswith("gpu") for part in self.gres.split(","))


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """SlurmSettings as options; "" takes the value of the file, or else the default."""

    slurm_file: Annotated[
        str, "TOML file of slurm_ settings; an absolute path for `mlflow run`"
    ] = ""
    slurm_partition: Annotated[str, "partition of the jobs"] = ""
    slurm_time: Annotated[str, f"minutes a job may take; {SlurmSettings.time} if not given"] = ""
    slurm_cpus: Annotated[str, f"cores of a job; {SlurmSettings.cpus} if not given"] = ""
    slurm_mem: Annotated[str, "memory of a job, as 5GB; the cluster's default if not given"] = ""
    slurm_gres: Annotated[str, "as gpu:1"] = ""
    slurm_array_parallelism: Annotated[
        str, f"jobs at once; {SlurmSettings.array_parallelism} if not given"
    ] = ""
    slurm_pack_minutes: Annotated[
        str, f"of trainings that share a job, at most; {FILLED} of slurm_time if not given"
    ] = ""

    def slurm_settings(self) -> SlurmSettings:
        """The settings from the options, the file and the defaults.

        Raises ConfigError for an invalid name or value, or a file that cannot be read.
        """
        values = _read(Path(self.slurm_file)) if self.slurm_file else {}
        for field in dataclasses.fields(SlurmOptions):
            given = getattr(self, field.name)
            if given and field.name != "slurm_file":
                name = field.name.removeprefix(PREFIX)
                values[name] = _whole(field.name, given) if TYPES[name] is int else given
        return SlurmSettings(**values)


# The options that have an effect with some launchers only, and these launchers.
LAUNCHERS = (AUTO, "inline", "local", "slurm")
NEEDS = {"jobs": (AUTO, "local"), "share_gpu": (AUTO, "local")} | {
    field.name: ("slurm",) for field in dataclasses.fields(SlurmOptions)
}
TYPES: Mapping[str, type] = {
    name: get_origin(kind) or kind for name, kind in get_type_hints(SlurmSettings).items()
}
IN_WORDS = {str: "a text", int: "a whole number", list: "a list of texts"}


def _read(file: Path) -> dict:
    try:
        content = tomllib.loads(file.expanduser().read_text())
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"slurm_file={file}: {reason}") from error
    values = {}
    for key, value in content.items():
        name = key.removeprefix(PREFIX)
        if not key.startswith(PREFIX) or name not in TYPES:
            valid = ", ".join(PREFIX + name for name in TYPES)
            raise ConfigError(f"slurm_file={file}: no setting {key}: give some of {valid}")
        items = value if isinstance(value, list) else [""]
        if type(value) is not TYPES[name] or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"slurm_file={file}: {key} = {value!r}: give {IN_WORDS[TYPES[name]]}")
        values[name] = value
    return values


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: give a whole number") from None


@dataclass(frozen=True, kw_only=True)
class LaunchOptions(SlurmOptions):
    """How a recipe's trainings are launched, and where results go. None changes a result."""

    resume: Annotated[bool, "go on where an interrupted run of the same ended"] = True
    launcher: Annotated[
        str, f"{', '.join(LAUNCHERS)}; auto: in this process, or local where jobs is above 1"
    ] = AUTO
    jobs: Annotated[
        str, "trainings at once, in worker processes; auto: one a core where seconds do not matter"
    ] = AUTO
    threads: Annotated[str, "of a training on the CPU; auto: one, or all cores if faster"] = AUTO
    output: Annotated[str, "new folder for a copy, with PDFs; absolute for `mlflow run`"] = ""
    system_metrics: Annotated[bool, "log MLflow's system metrics, which takes some of the CPU"] = (
        False
    )
    share_gpu: Annotated[bool, "let several trainings at once use one GPU"] = False
    stores: Annotated[str, STORES] = ""

    def __post_init__(self):
        one_of("launcher", self.launcher, LAUNCHERS)
        for name in ("jobs", "threads"):
            self.number(name)  # raises ConfigError for an invalid number
        for name, launchers in NEEDS.items():
            value, default = getattr(self, name), getattr(LaunchOptions, name)
            if self.launcher not in launchers and value != default:
                shown = "true" if value is True else value
                raise ConfigError(
                    f"{name}={shown} has no effect with launcher={self.launcher}: "
                    f"give launcher={launchers[-1]}"
                )
        self.slurm_settings()  # raises ConfigError for invalid settings

    def number(self, name: str) -> int:
        """The value of `jobs` or `threads`; 0 for "auto"."""
        text = getattr(self, name)
        if text != AUTO and not (text.isdecimal() and 1 <= int(text) <= MOST):
            raise ConfigError(f"{name}={text}: give a number from 1 to {MOST}, or {AUTO}")
        return 0 if text == AUTO else int(text)
