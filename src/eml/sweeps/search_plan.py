"""The plan of a search for learning rates and its final trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eml.config import Config
from eml.launchers.base import Launcher
from eml.recipes.optimizers import SEEDS_OF_A_VERDICT, Options, final
from eml.sweeps.plan import Plan
from eml.sweeps.request import Request
from eml.sweeps.status import TrainingStatus
from eml.tracking import find
from eml.training.cost import duration


@dataclass(frozen=True)
class SearchPlan(Plan):
    """Estimates the time of a search, and of the final trainings of each optimizer."""

    options: Options
    finals_done: int  # final trainings that the store has
    finals_launcher: Launcher

    @property
    def seeds(self) -> list[int]:
        """Those of the final trainings."""
        return self.options.finals_seeds

    @property
    def expected(self) -> float:
        return super().expected + self.finals(self.seeds)

    @property
    def left(self) -> float:
        count = len(self._each()) * len(self.seeds)
        missing = max(count - self.finals_done, 0) / count
        if not missing:  # all finals are done, so the search is done too
            return 0.0
        return max(super().expected - self.spent, 0.0) + missing * self.finals(self.seeds)

    @property
    def counted(self) -> str:
        finals = len(self._each()) * len(self.seeds)
        return f"{len(self.configs)} trainings of the search and {finals} final ones"

    def finals(self, seeds: Sequence[int]) -> float:
        """Expected seconds of the final trainings with these seeds."""
        return self.finals_launcher.seconds(
            final(config, self.options, seed) for config in self._each().values() for seed in seeds
        )

    def _each(self) -> dict[str, Config]:
        """One Config of each optimizer."""
        return {config.optimizer: config for config in self.configs}

    def __str__(self) -> str:
        lines = [
            f"  then the best rate of each optimizer ({', '.join(self._each())}) on all training "
            f"images, with the seeds {', '.join(map(str, self.seeds))}",
            super().__str__(),
        ]
        if len(self.seeds) < SEEDS_OF_A_VERDICT and self.launcher.trains_here:
            seconds = super().expected + self.finals(range(SEEDS_OF_A_VERDICT))
            lines.append(f"with {SEEDS_OF_A_VERDICT} seeds, for verdicts: {duration(seconds)}")
        return "\n".join(lines)


def search_plan(request: Request, done: Mapping[Config, TrainingStatus]) -> SearchPlan:
    """Time the trainings of a search and of its end."""
    grid, options = request.configs, request.options
    assert isinstance(options, Options)
    for launcher in dict.fromkeys([request.launcher, request.finals_launcher]):
        if launcher.trains_here:
            launcher.measure(grid, request.launching.number("threads"), request.code)
    return SearchPlan(
        grid,
        request.launcher,
        done,
        options=options,
        finals_done=_finals_done(request, options) if request.launching.resume else 0,
        finals_launcher=request.finals_launcher,
    )


def _finals_done(request: Request, options: Options) -> int:
    """Number of pairs (optimizer, seed) with a finished training that could be the final one."""
    finals = [final(c, options, seed) for c in request.configs for seed in options.finals_seeds]
    done = [
        config
        for config in finals
        if find.finished_training(config, others=request.others, like=request.timed_alike)
    ]
    return len({(config.optimizer, config.seed) for config in done})
