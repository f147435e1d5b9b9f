"""What a recipe of several trainings is going to do, how long that takes, what fits a budget."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from eml.config import Config
from eml.errors import UserError
from eml.launch_options import LaunchOptions
from eml.launchers.base import Launcher, Probe
from eml.recipes import SearchOptions, seeds_of
from eml.sweeps.lr_search import REDUCTION, rungs
from eml.sweeps.status import State
from eml.text import duration
from eml.tracking import find
from eml.training.cost import Costs, kind_of, makespan, pack, seconds_of

SHARE_AT_AN_EDGE = 0.5  # of optimizers, about: so many extend the grid once


def probe_costs(configs: Iterable[Config], launcher: Launcher, at_once: int) -> Costs:
    """Try each kind_of of training, as many at once as are going to run at once.

    Raises UserError if one does not work.
    """
    kinds = {kind_of(config): config for config in configs}
    probes = [Probe(config=config) for config in kinds.values()]
    # All workers have to be busy, or the last one would have the machine to itself.
    for number in range(-len(probes) % at_once):
        probes.append(replace(probes[number % len(kinds)], number=number + 1))
    ended = launcher.run(probes)
    if failed := [f"{p.config.run_name}: {ended[p].reason}" for p in probes if ended[p].reason]:
        raise UserError(failed[0])
    return {kind_of(probe.config): ended[probe].cost for probe in probes}


@dataclass(frozen=True)
class Plan:
    """The trainings of a recipe, or of a search with so many seeds and steps beyond the grid."""

    configs: Sequence[Config]
    options: LaunchOptions
    costs: Costs
    done: Mapping[Config, State]
    seeds: tuple[int, ...] = ()
    extend: int = 0
    winners_done: int = 0  # trainings of winners that the store has

    @property
    def expected(self) -> float:
        """Seconds, from nothing on."""
        if not self._searches:
            return self.whole(self.configs)
        return self._grid(self.options.prune == "halving") + self._beyond() + self.finals()

    @property
    def longest(self) -> float:
        """Seconds, if nothing is pruned and the grid is extended as far as it may be."""
        if not self._searches:
            return self.expected
        beyond = self.extend * self.whole(self._each().values())
        return self._grid(prune=False) + beyond + self.finals()

    @property
    def left(self) -> float:
        """Seconds that are to be expected after what is done already."""
        done = self._elapsed(
            [
                seconds_of(c, self.costs, state.epochs)
                for c, state in self.done.items()
                if state.epochs
            ]
        )
        if not self._searches:
            return max(self.expected - done, 0.0)
        winners = len(self._each()) * len(self.seeds)
        missing = max(winners - self.winners_done, 0) / winners
        if not missing:  # then the search before them is over as well
            return 0.0
        grid = max(self._grid(self.options.prune == "halving") - done, 0.0)
        return grid + self._beyond() + missing * self.finals()

    def whole(self, configs: Iterable[Config]) -> float:
        """Seconds that these trainings take from beginning to end."""
        durations = [seconds_of(config, self.costs, config.epochs) for config in configs]
        return self._elapsed(durations)

    def finals(self) -> float:
        """Seconds that the winners take with all seeds."""
        configs = [replace(config, validation=0) for config in self._each().values()]
        return self.whole(config for config in configs for _ in self.seeds)

    def _elapsed(self, durations: Sequence[float]) -> float:
        """Seconds that these take with the options' launcher, if no job has to wait for others."""
        if self.options.launcher != "slurm":
            return makespan(durations, self.options.jobs)
        settings = self.options.slurm_settings()
        lots = pack(durations, settings.pack_seconds)
        lasting = [sum(durations[number] for number in lot) for lot in lots]
        return makespan(lasting, settings.array_parallelism)

    @property
    def _searches(self) -> bool:
        return isinstance(self.options, SearchOptions)

    def _each(self) -> dict[str, Config]:
        return {config.optimizer: config for config in self.configs}

    def _grid(self, prune: bool) -> float:
        epochs = self.configs[0].epochs
        alive = {
            optimizer: float(sum(config.optimizer == optimizer for config in self.configs))
            for optimizer in self._each()
        }
        seconds, done = 0.0, 0
        for until in [*(rungs(epochs) if prune else []), epochs]:
            durations = []
            for optimizer, config in self._each().items():
                one = seconds_of(config, self.costs, until - done, begun=done > 0)
                durations += [one] * round(alive[optimizer])
                alive[optimizer] = expected_survivors(round(alive[optimizer]))
            seconds += self._elapsed(durations)
            done = until
        return seconds

    def _beyond(self) -> float:
        if not self.extend:
            return 0.0
        each = list(self._each().values())
        return self.whole(each[: max(1, round(SHARE_AT_AN_EDGE * len(each)))])

    def __str__(self) -> str:
        """For people: what there is to do, and the time that is to be expected."""
        lines = []
        if self._searches:
            lines.append(
                f"  then the best rate each of {', '.join(self._each())} on all training images, "
                f"with the seeds {', '.join(map(str, self.seeds))}"
            )
            total = len(self._each()) * len(self.seeds)
            counted = f"{len(self.configs)} trainings on the grid and {total} of winners"
        else:
            counted = f"{len(self.configs)} trainings"
        time = f"about {duration(self.left)}"
        if self.longest > 1.05 * self.expected:
            time += f", {duration(self.longest)} if nothing is pruned and every grid is extended"
        at_once = f", {self.options.jobs} at once" if self.options.jobs > 1 else ""
        if self.options.launcher == "slurm":
            time += ", and however long the jobs wait in the queue"
        return "\n".join([*lines, f"{counted}{at_once}: {time}"])


def search_plan(
    grid: Sequence[Config],
    options: SearchOptions,
    costs: Costs,
    done: Mapping[Config, State],
) -> tuple[Plan, list[str]]:
    """What fits the budget, and a line for each thing that is left out for it.

    Raises UserError if not even one seed without a step beyond the grid fits.
    """
    seeds = tuple(seeds_of(options))
    plan = Plan(grid, options, costs, done, seeds, options.extend, _winners_done(grid, options))
    budget = 60 * options.budget_minutes
    left_out = []
    if budget and plan.left > budget and plan.extend:
        plan = replace(plan, extend=0)
        left_out.append("steps beyond the grid are left out")
    while budget and plan.left > budget:
        if len(plan.seeds) == 1:
            raise UserError(
                f"budget_minutes={options.budget_minutes:g}: the least, with one seed, takes about "
                f"{duration(plan.left)}; give more, or fewer epochs, rates or optimizers, or a "
                "subset"
            )
        left_out.append(f"seed {plan.seeds[-1]} is left out")
        plan = replace(plan, seeds=plan.seeds[:-1])
    return plan, left_out


def expected_survivors(trainings: int) -> float:
    """How many pass a rung, on average over the orders in which they may come to it.

    The i-th passes if it is among the best i // REDUCTION of those so far, or the best of all.
    """
    return sum(max(1, i // REDUCTION) / i for i in range(1, trainings + 1))


def _winners_done(grid: Sequence[Config], options: SearchOptions) -> int:
    """How many trainings of winners there are, whichever rate of an optimizer it is that wins."""
    if not options.resume:
        return 0
    pairs = {
        (winner.optimizer, winner.seed)
        for config in grid
        for seed in seeds_of(options)
        for winner in [replace(config, validation=0, seed=seed)]
        if find.finished_training(winner)
    }
    return len(pairs)
