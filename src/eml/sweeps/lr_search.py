"""Searches each optimizer's learning rate: decides which trainings come next.

This module trains nothing. A search is a generator that yields Stages and receives trainings.
"""

import itertools
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eml.analysis.curves import Training, judged_at
from eml.analysis.verdicts import above_chance, wilson
from eml.config import Config


@dataclass(frozen=True)
class Stage:
    """Trainings that may be carried out in any order, or at once."""

    title: str
    configs: Sequence[Config]
    until: int | None = None  # the epoch after which to pause; None trains to the end
    optional: bool = False  # whether the caller may skip the stage by sending None


@dataclass
class Trial:
    """One training of the search."""

    config: Config
    accuracies: np.ndarray | None = None  # on validation, from epoch 1, as far as trained
    diverged: int | None = None  # the epoch in which the training diverged
    pruned: int | None = None  # the epoch after which the training was pruned

    @property
    def alive(self) -> bool:
        """Whether the training can still be the best: neither diverged nor pruned."""
        return self.diverged is None and self.pruned is None

    def score(self, criterion: str) -> float:
        """Its validation accuracy after the "last" epoch, or the "best" of any; else -1."""
        if self.accuracies is None or not self.alive:
            return -1.0
        return float(self.accuracies[judged_at(self.accuracies, criterion)])


@dataclass
class Findings:
    """The results of a search so far, by optimizer."""

    criterion: str
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def every(self) -> list[Trial]:
        """Every trial, in the order of the plan."""
        return [trial for trials in self.trials.values() for trial in trials]

    def winners(self) -> list[Config]:
        """The Config with the best rate of each optimizer, without optimizers that failed."""
        best = {name: self.winner(name) for name in self.trials}
        return [trial.config for trial in best.values() if trial]

    def ties(self, optimizer: str) -> list[Trial]:
        """The trials that are not worse than the best beyond chance, by rate.

        That is: within the binomial error (95 %) of the best on its validation images. Empty if no
        trial got above chance.
        """
        scores = {id(t): t.score(self.criterion) for t in self.trials[optimizer]}
        best = max(scores.values())
        images = self.trials[optimizer][0].config.validation
        if best <= above_chance(images):
            return []
        least = wilson(best, images)[0]
        tied = [trial for trial in self.trials[optimizer] if scores[id(trial)] >= least]
        return sorted(tied, key=lambda trial: trial.config.learning_rate)

    def winner(self, optimizer: str) -> Trial | None:
        """The middle one of the ties, of two the better one; None if there is none."""
        ties = self.ties(optimizer)
        middle = ties[(len(ties) - 1) // 2 : len(ties) // 2 + 1]
        return max(middle, key=lambda trial: trial.score(self.criterion), default=None)

    def choices(self) -> list[str]:
        """One line for each optimizer with tied or failed rates."""
        lines = []
        for optimizer in self.trials:
            ties, winner = self.ties(optimizer), self.winner(optimizer)
            if winner is None:
                lines.append(f"no rate of {optimizer} got above chance")
            elif len(ties) > 1:
                rates = ", ".join(f"{trial.config.learning_rate:g}" for trial in ties)
                lines.append(
                    f"the rates {rates} of {optimizer} are tied within the error of "
                    f"{winner.config.validation} validation images: the middle one, "
                    f"{winner.config.learning_rate:g}, is taken"
                )
        return lines

    def edge(self, optimizer: str) -> float | None:
        """The rate to try next if the best is the lowest or highest rate tried; else None."""
        rates = sorted(trial.config.learning_rate for trial in self.trials[optimizer])
        winner = self.winner(optimizer)
        if winner is None:  # every rate failed, probably because it was too high
            return _rounded(rates[0] * rates[0] / rates[1])
        best = winner.config.learning_rate
        if best == rates[0]:
            return _rounded(best * best / rates[1])
        if best == rates[-1]:
            return _rounded(best * best / rates[-2])
        return None


def halfway(epochs: int) -> int | None:
    """The epoch after which the worse half of the trainings stops; None if there is no such one.

    Not earlier: rates that start slowly are often the best in the end.
    """
    return epochs // 2 or None


def survivors(trainings: int) -> int:
    """How many of an optimizer's trainings go on after the halfway epoch."""
    return -(-trainings // 2)


def search(
    grid: Iterable[Config], prune: bool, extend: int, found: Findings
) -> Generator[Stage, dict[Config, Training] | None, None]:
    """Search the grid, and further rates if the best rate is at the edge of the rates tried.

    prune: stop the worse half of each optimizer's trainings halfway. extend: largest number of
    further rates of an optimizer. found: filled by the search.

    Yields Stages. The caller trains a stage and sends the training of each Config. A Config without
    one has failed and counts as diverged in epoch 0. The order of the Configs, and what the
    store has already, change nothing.
    """
    for config in grid:
        found.trials.setdefault(config.optimizer, []).append(Trial(config))
    yield from _search(prune, extend, found)
    found.remarks += found.choices()


def _search(
    prune: bool, extend: int, found: Findings
) -> Generator[Stage, dict[Config, Training] | None, None]:
    new = found.trials
    for round_number in itertools.count():
        yield from _train(
            new, prune, found.criterion, "beyond the grid" if round_number else "grid"
        )
        if any(trial.accuracies is None and trial.diverged is None for trial in found.every()):
            for name, (trial,) in new.items():
                found.trials[name].remove(trial)
                found.remarks.append(
                    f"learning rate {trial.config.learning_rate:g} of {name} is left out, because "
                    "the budget has no time for it"
                )
            return
        beyond = {name: rate for name in found.trials if (rate := found.edge(name)) is not None}
        if not beyond:
            return
        if round_number == extend:
            found.remarks += [
                f"{name} {_why(found, name)}, and extend={extend} allows no further step: {rate:g} "
                "would be next"
                for name, rate in beyond.items()
            ]
            return
        new = {}
        for name, rate in beyond.items():
            found.remarks.append(f"{name} {_why(found, name)}: {rate:g} is tried too")
            trial = Trial(replace(found.trials[name][0].config, learning_rate=rate))
            found.trials[name].append(trial)
            new[name] = [trial]


def _why(found: Findings, optimizer: str) -> str:
    if found.winner(optimizer) is None:
        return "fails at every rate"
    return "is best at the edge of its rates"


def _train(
    new: dict[str, list[Trial]], prune: bool, criterion: str, title: str
) -> Generator[Stage, dict[Config, Training] | None, None]:
    """Train new trials of each optimizer halfway, and the better half to the end."""
    half = halfway(next(iter(new.values()))[0].config.epochs) if prune else None
    for until in (half, None) if half else (None,):
        alive = [trial for trials in new.values() for trial in trials if trial.alive]
        if not alive:
            return
        till = f" to epoch {until}" if until else ""
        # A training beyond the grid may be skipped only before it has begun.
        optional = title != "grid" and all(trial.accuracies is None for trial in alive)
        configs = [trial.config for trial in alive]
        trained = yield Stage(f"{title}{till}", configs, until, optional)
        if trained is None:
            return
        for trial in alive:
            _take(trial, trained.get(trial.config), until)
        if until:
            for trials in new.values():
                _halve([trial for trial in trials if trial.alive], until, criterion)


def _halve(trials: Sequence[Trial], until: int, criterion: str) -> None:
    """Prune the trials that are worse than the worst of the better half."""
    scores = sorted((trial.score(criterion) for trial in trials), reverse=True)
    least = scores[survivors(len(scores)) - 1] if scores else 0.0
    for trial in trials:
        if trial.score(criterion) < least:
            trial.pruned = until


def _take(trial: Trial, training: Training | None, until: int | None) -> None:
    if training is None:
        trial.diverged = 0
        return
    trial.diverged = training.diverged
    # A finished training from the store may have more epochs than this stage needs.
    last = until or trial.config.epochs
    if trial.diverged is not None and trial.diverged > last:
        trial.diverged = None
    epochs = training.points["epoch"]
    trial.accuracies = training.accuracies[(epochs >= 1) & (epochs <= last)]


def _rounded(rate: float) -> float:
    """Round to two significant digits, as people write learning rates."""
    return float(f"{rate:.2g}")
