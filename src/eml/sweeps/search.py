"""Chooses each optimizer's learning rate from the trainings of a short search. Trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eml.analysis.curves import Training
from eml.analysis.labels import MEDIAN, words
from eml.analysis.verdicts import above_chance, wilson
from eml.config import Config


@dataclass(frozen=True)
class Choice:
    """The learning rate of an optimizer."""

    chosen: Config | None  # of the search, with the chosen rate; None if none got above chance
    tied: Sequence[Config]  # those that are not worse than the best beyond chance, by rate
    remarks: Sequence[str]  # a line for ties, and for a failure at every rate


def choose(configs: Sequence[Config], trained: Mapping[Config, Training]) -> Choice:
    """Choose the rate with the highest median validation accuracy over the last half of its epochs.

    Of rates that are tied within the binomial error (95 %) of the validation images, the middle one
    is chosen; of two, the better one. The order of the Configs changes nothing.

    configs: of one optimizer. trained: without trainings that failed; a diverged one cannot win.
    """
    configs = sorted(configs, key=lambda config: config.learning_rate)
    optimizer, images = words("optimizer", configs[0].optimizer), configs[0].validation
    complete = [config for config in configs if config in trained and trained[config].complete]
    scores = {config: trained[config].score(MEDIAN) for config in complete}
    best = max(scores.values(), default=0.0)
    if best <= above_chance(images):
        return Choice(None, [], [f"no rate of {optimizer} got above chance"])
    tied = [config for config in complete if scores[config] >= wilson(best, images)[0]]
    middle = tied[(len(tied) - 1) // 2 : len(tied) // 2 + 1]
    chosen = max(middle, key=scores.__getitem__)
    remarks = []
    if len(tied) > 1:
        rates = ", ".join(f"{config.learning_rate:g}" for config in tied)
        which = "middle" if len(tied) > 2 else "better"
        remarks.append(
            f"the rates {rates} of {optimizer} are tied within the error of {images} validation "
            f"images: the {which} one, {chosen.learning_rate:g}, is taken"
        )
    return Choice(chosen, tied, remarks)


def lower_rate(final: Config, grid: Sequence[Config]) -> Config | None:
    """A final training with the next lower rate of the grid; None if there is no lower one."""
    rates = [config.learning_rate for config in grid if config.optimizer == final.optimizer]
    lower = [rate for rate in rates if rate < final.learning_rate]
    return replace(final, learning_rate=max(lower)) if lower else None
