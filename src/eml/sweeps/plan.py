"""The time that a recipe's trainings take, by the costs that a launcher has measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eml.config import Config
from eml.launchers.base import Launcher
from eml.sweeps.status import TrainingStatus
from eml.training.cost import duration, seconds_of


@dataclass(frozen=True)
class Plan:
    """The trainings of a recipe, and the seconds that they take, if the launcher trains here."""

    configs: Sequence[Config]
    launcher: Launcher
    done: Mapping[Config, TrainingStatus]

    @property
    def expected(self) -> float:
        """Of all trainings, including the epochs that are done."""
        return self.launcher.seconds(self.configs)

    @property
    def left(self) -> float:
        """Of the epochs that are not done yet."""
        return max(self.expected - self.spent, 0.0)

    @property
    def spent(self) -> float:
        """Of the epochs that are done."""
        return self.launcher.elapsed(
            [
                seconds_of(config, self.launcher.costs, status.epochs)
                for config, status in self.done.items()
                if status.epochs
            ]
        )

    @property
    def counted(self) -> str:
        """The number of trainings, in words."""
        return f"{len(self.configs)} training{'s' if len(self.configs) > 1 else ''}"

    def __str__(self) -> str:
        launcher = self.launcher
        at_once = f", {launcher.at_once} at once" if launcher.at_once > 1 else ""
        about = f": about {duration(self.left)}" if launcher.trains_here else ""
        return f"{self.counted}{at_once}{about}"
