"""The plan of a search for learning rates, and the part that fits a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eml.config import Config
from eml.errors import UserError
from eml.launchers.base import Launcher
from eml.recipes.optimizers import Options
from eml.sweeps.lr_search import halfway, survivors
from eml.sweeps.plan import Plan
from eml.sweeps.request import Request
from eml.sweeps.status import TrainingStatus
from eml.tracking import find
from eml.tracking.find import Others
from eml.training.cost import duration, seconds_of

SHARE_AT_AN_EDGE = 0.5  # expected share of the optimizers that extend the grid once


@dataclass(frozen=True)
class SearchPlan(Plan):
    """Estimates the time of a grid, of further rates, and of the winners with all seeds."""

    prune: bool  # whether weak trainings of the grid stop early
    seeds: Sequence[int]  # of the winners
    extend: int  # largest number of further rates of an optimizer
    winners_done: int  # finished trainings of winners in the store
    finals_launcher: Launcher  # of the winners

    @property
    def expected(self) -> float:
        return self._grid() + self._beyond() + self.finals()

    @property
    def left(self) -> float:
        winners = len(self._each()) * len(self.seeds)
        missing = max(winners - self.winners_done, 0) / winners
        if not missing:  # all winners are done, so the search is done too
            return 0.0
        grid = max(self._grid() - self.spent, 0.0)
        return grid + self._beyond() + missing * self.finals()

    @property
    def counted(self) -> str:
        winners = len(self._each()) * len(self.seeds)
        return f"{len(self.configs)} trainings on the grid and {winners} of winners"

    def finals(self) -> float:
        """Expected seconds of the winners with all seeds."""
        configs = [replace(config, validation=0) for config in self._each().values()]
        return self.finals_launcher.seconds(config for config in configs for _ in self.seeds)

    def _each(self) -> dict[str, Config]:
        """One Config of each optimizer."""
        return {config.optimizer: config for config in self.configs}

    def _grid(self) -> float:
        epochs = self.configs[0].epochs
        alive = {
            optimizer: sum(config.optimizer == optimizer for config in self.configs)
            for optimizer in self._each()
        }
        seconds, done = 0.0, 0
        half = halfway(epochs) if self.prune else None
        for until in [half, epochs] if half else [epochs]:
            durations = []
            for optimizer, config in self._each().items():
                one = seconds_of(config, self.launcher.costs, until - done, begun=done > 0)
                durations += [one] * alive[optimizer]
                alive[optimizer] = survivors(alive[optimizer])
            seconds += self.launcher.elapsed(durations)
            done = until
        return seconds

    def _beyond(self) -> float:
        if not self.extend:
            return 0.0
        each = list(self._each().values())
        return self.launcher.seconds(each[: max(1, round(SHARE_AT_AN_EDGE * len(each)))])

    def __str__(self) -> str:
        return (
            f"  then the best rate of each optimizer ({', '.join(self._each())}) on all training "
            f"images, with the seeds {', '.join(map(str, self.seeds))}\n{super().__str__()}"
        )


def search_plan(
    request: Request, done: Mapping[Config, TrainingStatus]
) -> tuple[SearchPlan, list[str]]:
    """Probe the trainings; the plan that fits the budget, and a line for each part left out.

    Raises UserError if even the grid and one seed do not fit.
    """
    grid, options = request.configs, request.options
    assert isinstance(options, Options)
    for launcher in dict.fromkeys([request.launcher, request.finals_launcher]):
        launcher.measure(grid, request.launching.number("threads"))
    seeds = options.winners_seeds
    plan = SearchPlan(
        grid,
        request.launcher,
        done,
        prune=options.prune == "halving",
        seeds=seeds,
        extend=options.extend,
        winners_done=_winners_done(grid, seeds, request.others) if request.launching.resume else 0,
        finals_launcher=request.finals_launcher,
    )
    budget = 60 * options.budget_minutes
    left_out = []
    if budget and plan.left > budget and plan.extend:
        plan = replace(plan, extend=0)
        left_out.append("steps beyond the grid are left out")
    while budget and plan.left > budget:
        if len(plan.seeds) == 1:
            raise UserError(
                f"budget_minutes={options.budget_minutes:g}: the smallest search, with one seed, "
                f"takes about {duration(plan.left)}; give more minutes, fewer epochs, rates or "
                "optimizers, or a subset"
            )
        left_out.append(f"seed {plan.seeds[-1]} is left out")
        plan = replace(plan, seeds=plan.seeds[:-1])
    return plan, left_out


def _winners_done(grid: Sequence[Config], seeds: Sequence[int], others: Others) -> int:
    """Number of pairs (optimizer, seed) with a finished training that could be a winner's."""
    pairs = {
        (winner.optimizer, winner.seed)
        for config in grid
        for seed in seeds
        for winner in [replace(config, validation=0, seed=seed)]
        if find.finished_training(winner, others=others)
    }
    return len(pairs)
