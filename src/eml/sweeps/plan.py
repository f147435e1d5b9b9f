"""Estimates the time of a recipe's trainings from probes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from eml.config import Config
from eml.errors import UserError
from eml.launchers.base import Launcher, Probe
from eml.sweeps.status import TrainingStatus
from eml.training.cost import Costs, duration, kind_of, seconds_of
from eml.training.threads import Asked


def probe_costs(configs: Iterable[Config], launcher: Launcher, threads: Asked) -> Costs:
    """Probe each kind of training, with as many probes at once as there will be trainings.

    Raises UserError if a probe fails.
    """
    print("timing a few batches of each kind of training, without logging them", flush=True)
    kinds = {kind_of(config): config for config in configs}
    probes = [Probe(config=config, threads=threads) for config in kinds.values()]
    # Add probes to keep all workers busy: a probe alone on the machine would be too fast.
    probes += islice(cycle(tuple(probes)), -len(probes) % launcher.at_once)
    costs: Costs = {}
    for probe, result in zip(probes, launcher.run(probes), strict=True):
        if result.cost is None:
            raise UserError(f"{probe.config.run_name}: {result.reason}")
        costs[kind_of(probe.config)] = result.cost
    return costs


@dataclass(frozen=True)
class Plan:
    """The trainings of a recipe, and the time that they take."""

    configs: Sequence[Config]
    launcher: Launcher
    costs: Costs
    done: Mapping[Config, TrainingStatus]

    @property
    def expected(self) -> float:
        """Expected seconds of all trainings, including the epochs that are done."""
        return self.whole(self.configs)

    @property
    def left(self) -> float:
        """Expected seconds of the epochs that are not done yet."""
        return max(self.expected - self.spent, 0.0)

    @property
    def spent(self) -> float:
        """Expected seconds of the epochs that are done."""
        return self.launcher.elapsed(
            [
                seconds_of(config, self.costs, status.epochs)
                for config, status in self.done.items()
                if status.epochs
            ]
        )

    @property
    def counted(self) -> str:
        """The number of trainings, in words."""
        return f"{len(self.configs)} training{'s' if len(self.configs) > 1 else ''}"

    def whole(self, configs: Iterable[Config]) -> float:
        """Expected seconds of these trainings from beginning to end."""
        durations = [seconds_of(config, self.costs, config.epochs) for config in configs]
        return self.launcher.elapsed(durations)

    def __str__(self) -> str:
        at_once = f", {self.launcher.at_once} at once" if self.launcher.at_once > 1 else ""
        beside = ", beside other work" if any(c.disturbed for c in self.costs.values()) else ""
        about = f"about {duration(self.left)}{beside}{self.launcher.waits}"
        return f"{self.counted}{at_once}: {about}"
