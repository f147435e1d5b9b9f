"""Searches each optimizer's learning rate: decides which trainings come next.

This module trains nothing. A search is a generator that yields Stages and receives histories.
"""

import itertools
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from eml.analysis.curves import diverged_epoch
from eml.config import Config

REDUCTION = 2  # about one in REDUCTION trainings of an optimizer survives a rung


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
    accuracies: pd.Series | None = None  # validation accuracy by epoch, as far as trained
    diverged: int | None = None  # the epoch in which the training diverged
    pruned: int | None = None  # the epoch after which the training was pruned

    @property
    def best(self) -> float:
        """The highest validation accuracy of any epoch; -1 if the trial cannot win."""
        if self.accuracies is None or self.diverged is not None or self.pruned is not None:
            return -1.0
        return float(self.accuracies.max())


@dataclass
class Findings:
    """The results of a search so far, by optimizer."""

    trials: dict[str, list[Trial]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def every(self) -> list[Trial]:
        """Every trial, in the order of the plan."""
        return [trial for trials in self.trials.values() for trial in trials]

    def winners(self) -> list[Config]:
        """The Config with the best rate of each optimizer, without optimizers that failed."""
        best = {name: self.winner(name) for name in self.trials}
        return [trial.config for trial in best.values() if trial]

    def winner(self, optimizer: str) -> Trial | None:
        """The trial with the best rate; None if every rate has failed."""
        best = max(self.trials[optimizer], key=lambda trial: trial.best)
        return best if best.best >= 0 else None

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


def rungs(epochs: int) -> list[int]:
    """The epochs after which weak trainings stop: about 1/8, 1/4 and 1/2 of all epochs."""
    lowest = max(1, epochs // 8)
    powers = (lowest * REDUCTION**power for power in itertools.count())
    return list(itertools.takewhile(lambda epoch: epoch <= epochs / 2, powers))


def search(
    grid: Iterable[Config], prune: bool, extend: int, found: Findings
) -> Generator[Stage, dict[Config, pd.DataFrame] | None, None]:
    """Search the grid, and further rates if the best rate is at the edge of the rates tried.

    prune: stop weak trainings at the rungs, by Optuna's successive halving among the trainings of
        one optimizer. extend: largest number of further rates of an optimizer.
    found: filled by the search.

    Yields Stages. The caller trains a stage and sends the history of each Config. A Config without
    a history has failed and counts as diverged in epoch 0.
    """
    studies = {}
    for config in grid:
        found.trials.setdefault(config.optimizer, []).append(Trial(config))
    for optimizer, trials in found.trials.items():
        studies[optimizer] = _study(trials[0].config.epochs) if prune else None
    new = found.trials
    for round_number in itertools.count():
        yield from _train(new, studies, "beyond the grid" if round_number else "grid")
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


def _train(new: dict[str, list[Trial]], studies: dict, title: str) -> Generator:
    """Train new trials of each optimizer rung by rung, and the survivors to the end."""
    # Begin with the middle rate, because a pruner never prunes the first trial.
    asked = {
        name: [(trial, studies[name] and studies[name].ask()) for trial in _from_the_middle(trials)]
        for name, trials in new.items()
    }
    epochs = next(iter(new.values()))[0].config.epochs
    for until in [*(rungs(epochs) if any(studies.values()) else []), None]:
        alive = [
            trial
            for trials in asked.values()
            for trial, _ in trials
            if trial.pruned is None and trial.diverged is None
        ]
        if not alive:
            return
        # Sort in the order of the plan, not in the order of the pruner.
        order = {id(t): n for n, t in enumerate(itertools.chain.from_iterable(new.values()))}
        alive.sort(key=lambda trial: order[id(trial)])
        till = f" to epoch {until}" if until else ""
        # A training beyond the grid may be skipped only before it has begun.
        optional = title != "grid" and all(trial.accuracies is None for trial in alive)
        configs = [trial.config for trial in alive]
        histories = yield Stage(f"{title}{till}", configs, until, optional)
        if histories is None:
            return
        for trial in alive:
            _take(trial, histories.get(trial.config), until)
        if until is None:
            return
        for trials in asked.values():
            for trial, theirs in trials:
                if trial.pruned is None and trial.diverged is None:
                    theirs.report(trial.accuracies.max(), until)
                    if theirs.should_prune():
                        trial.pruned = until


def _take(trial: Trial, history: pd.DataFrame | None, until: int | None) -> None:
    if history is None:
        trial.diverged = 0
        return
    trial.diverged = diverged_epoch(history)
    # A finished training from the store may have more epochs than this rung needs.
    last = until or trial.config.epochs
    if trial.diverged is not None and trial.diverged > last:
        trial.diverged = None
    trial.accuracies = history.set_index("epoch")["validation_accuracy"].loc[1:last]


def _study(epochs: int):
    import optuna  # takes a second; only a search needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lowest = rungs(epochs)[0] if rungs(epochs) else epochs
    pruner = optuna.pruners.SuccessiveHalvingPruner(lowest, REDUCTION)
    return optuna.create_study(direction="maximize", pruner=pruner)


def _from_the_middle(trials: Sequence[Trial]) -> list[Trial]:
    logs = {id(trial): math.log(trial.config.learning_rate) for trial in trials}
    middle = (min(logs.values()) + max(logs.values())) / 2
    return sorted(trials, key=lambda trial: abs(logs[id(trial)] - middle))


def _rounded(rate: float) -> float:
    """Round to two significant digits, as people write learning rates."""
    return float(f"{rate:.2g}")
