"""The plan of a search for learning rates and its final trainings, within a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eml.config import Config
from eml.errors import UserError
from eml.launchers.base import Launcher
from eml.recipes.optimizers import SEEDS_OF_A_VERDICT, Options, final
from eml.recipes.recipe import listed
from eml.sweeps.plan import Plan
from eml.sweeps.request import Request
from eml.sweeps.status import TrainingStatus
from eml.tracking import find
from eml.tracking.readers import FINISHED
from eml.tracking.tags import BUDGET, PLAN_DIGEST
from eml.training.cost import duration


@dataclass(frozen=True)
class SearchPlan(Plan):
    """Estimates the time of a search, and of the final trainings of each optimizer."""

    options: Options
    seeds: Sequence[int]  # of the final trainings
    finals_done: int  # final trainings that the store has
    finals_launcher: Launcher

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


def search_plan(
    request: Request, done: Mapping[Config, TrainingStatus]
) -> tuple[SearchPlan, list[str]]:
    """Time the trainings; the plan that fits the budget, and a line for each seed left out.

    Raises UserError if even one seed does not fit.
    """
    grid, options = request.configs, request.options
    assert isinstance(options, Options)
    for launcher in dict.fromkeys([request.launcher, request.finals_launcher]):
        if launcher.trains_here:
            launcher.measure(grid, request.launching.number("threads"))
    plan = SearchPlan(
        grid,
        request.launcher,
        done,
        options=options,
        seeds=options.finals_seeds,
        finals_done=_finals_done(request, options) if request.launching.resume else 0,
        finals_launcher=request.finals_launcher,
    )
    if seeds := _seeds_kept(request, options):
        return replace(plan, seeds=seeds), []
    budget, left_out = 60 * options.budget_minutes, []
    while budget and plan.left > budget:
        if len(plan.seeds) == 1:
            raise UserError(
                f"budget_minutes={options.budget_minutes:g}: the search and one seed take about "
                f"{duration(plan.left)}; give more minutes, fewer epochs, rates or optimizers, or "
                "a subset"
            )
        seed = plan.seeds[-1]
        left_out.append(f"budget_minutes={options.budget_minutes:g}: seed {seed} is left out")
        plan = replace(plan, seeds=plan.seeds[:-1])
    return plan, left_out


def _seeds_kept(request: Request, options: Options) -> list[int]:
    """The seeds that the budget left to the interrupted run of this plan; [] if it chooses anew."""
    begun = find.search({PLAN_DIGEST: request.digest}) if request.launching.resume else []
    for tags in (run.tags for run in begun if run.status != FINISHED and BUDGET in run.tags):
        budget, _, seeds = tags[BUDGET].partition(" minutes: seeds ")
        if options.budget_minutes in (0, float(budget)):
            return listed("seeds", seeds, int)
    return []


def _finals_done(request: Request, options: Options) -> int:
    """Number of pairs (optimizer, seed) with a finished training that could be the final one."""
    finals = [final(c, options, seed) for c in request.configs for seed in options.finals_seeds]
    done = [
        config
        for config in finals
        if find.finished_training(config, others=request.others, like=request.timed_alike)
    ]
    return len({(config.optimizer, config.seed) for config in done})
