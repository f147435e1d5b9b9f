"""The table of launchers, and the options of launching trainings."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from eml.config import AUTO, STORES, ConfigError, Options, one_of
from eml.launchers.slurm.settings import JobOptions

MOST = 1024  # jobs, or threads of a training


class Row(NamedTuple):
    """A launcher's module and class, which are imported only if used, and its own options."""

    module: str
    class_name: str
    options: tuple[str, ...] = ()  # names of fields of LaunchOptions


LAUNCHERS = {
    "inline": Row("eml.launchers.worker", "Inline"),
    "local": Row("eml.launchers.local", "Workers", ("jobs",)),
    "slurm": Row("eml.launchers.slurm.launcher", "Slurm", tuple(JobOptions.__annotations__)),
}


@dataclass(frozen=True, kw_only=True)
class LaunchOptions(Options, JobOptions):
    """How a recipe's trainings are launched. None changes a result."""

    effects = tuple(
        (row.options, "launcher", (name, AUTO) if name == "local" else (name,))
        for name, row in LAUNCHERS.items()
    )

    resume: Annotated[bool, "resume an interrupted run of the same training"] = True
    launcher: Annotated[
        str,
        f"{', '.join([AUTO, *LAUNCHERS])}; auto: in this process, or local where jobs is above 1",
    ] = AUTO
    jobs: Annotated[
        str, "trainings at once, in worker processes; auto: one a core where seconds do not matter"
    ] = AUTO
    threads: Annotated[str, "of a training on the CPU; auto: one, or all cores if faster"] = AUTO
    stores: Annotated[str, STORES] = ""

    def __post_init__(self) -> None:
        """Raise ConfigError for an invalid value, or an option that has no effect."""
        one_of("launcher", self.launcher, [AUTO, *LAUNCHERS])
        for name in ("jobs", "threads"):
            self.number(name)
        super().__post_init__()
        self.resolved()

    def number(self, name: str) -> int:
        """The value of `jobs` or `threads`; 0 for "auto". Raises ConfigError."""
        text = getattr(self, name)
        if text != AUTO and not (text.isdecimal() and 1 <= int(text) <= MOST):
            raise ConfigError(f"{name}={text}: give a number from 1 to {MOST}, or {AUTO}")
        return 0 if text == AUTO else int(text)
