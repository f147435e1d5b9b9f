"""The generated sentences under a figure. Their numbers are references: {{lr_sweep.0.1.n}}."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from eml.analysis.figures import FIGURES
from eml.analysis.verdicts import Verdict
from eml.handin.numbers import NamedCurve
from eml.handin.sheet import Trainings


def sentences(
    trainings: Trainings,
    figure: str,
    named: Sequence[NamedCurve],
    verdicts: Sequence[Verdict],
) -> list[str]:
    """The order, the best epoch, what is separable, seconds and divergence; without conclusions."""
    lines: list[str] = []
    needs = FIGURES[figure].needs
    if "test_loss" in needs:
        lines += _lowest_losses(named)
    # Several figures of the same accuracies: the order and the verdicts stand under the first.
    accuracies = [n for n in trainings.figures if "test_accuracy" in FIGURES[n].needs]
    if figure in accuracies[:1]:
        lines += [*_accuracies(named), *_separable(named, verdicts)]
    if "train_seconds" in needs:
        lines += _seconds(named)
    lines += [
        f"{one.title} diverged in epoch {one.number('diverged_in_epoch')}."
        for one in named
        if one.curve.diverged
    ]
    return [line[:1].upper() + line[1:] for line in lines]


def _lowest_losses(named: Sequence[NamedCurve]) -> Iterator[str]:
    for one in named:
        loss = f"{one.curve.split}_loss"
        if len(one.curve.band("epoch", loss)):
            of = f" of {one.title}" if len(named) > 1 else ""
            yield (
                f"The lowest {one.curve.split} loss{of} is {one.number(f'lowest_{loss}')}, in "
                f"epoch {one.number(f'lowest_{loss}_epoch')}."
            )


def _accuracies(named: Sequence[NamedCurve]) -> Iterator[str]:
    """The final accuracies in descending order, and the best one, without what has diverged."""
    whole = [one for one in named if len(one.curve.diverged) < len(one.curve.trainings)]
    if not whole:
        return
    key = f"{whole[0].curve.split}_accuracy"
    accuracy, is_one = f"{whole[0].curve.split} accuracy", len(named) == 1
    means = {one.start: one.curve.band("epoch", key).mean for one in whole}
    parts = []
    for one in sorted(whole, key=lambda one: -means[one.start][-1]):
        part = one.number(f"final_{key}") if is_one else f"{one.title} {one.number(f'final_{key}')}"
        if len(one.ids) > 1:
            spread = f"{one.number('final_lowest')} to {one.number('final_highest')}"
            part += f" (mean of {one.number('n')} runs, {spread})"
        parts.append(part)
    order = "" if is_one else ", in descending order"
    yield f"{accuracy} after epoch {whole[0].number('epochs')}{order}: {', '.join(parts)}."
    best = max(whole, key=lambda one: means[one.start].max())
    of = "" if is_one else f" ({best.title})"
    epoch = "epochs" if len(best.ids) > 1 else "epoch"
    yield (
        f"Best {accuracy}: {best.number(f'best_{key}')}{of}, in {epoch} "
        f"{best.number('best_epoch')}."
    )


def _separable(named: Sequence[NamedCurve], verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The pairs without a separable difference, by the paired intervals over the seeds."""
    decided = [pair for pair in verdicts if pair.decided]
    if verdicts and not decided:
        yield (
            f"With n = {named[0].number('n')} there are too few seeds to tell which of these "
            "differences are more than chance."
        )
    by_label = {one.curve.label: one for one in named}
    undecided = [pair for pair in decided if not pair.separable]
    for pair in undecided:
        one, other = by_label[pair.curve], by_label[pair.other]
        difference, low, high = (
            one.number(f"{key}_to_{other.name}") for key in ("difference", "low", "high")
        )
        yield (
            f"{one.title} and {other.title} are not separable (difference {difference} points, "
            f"95 % interval {low} to {high})."
        )
    if len(undecided) < len(decided):
        rest = "All other" if undecided else "All"
        yield f"{rest} differences after the last epoch are separable at 95 %."


def _seconds(named: Sequence[NamedCurve]) -> Iterator[str]:
    timed = [(one.curve.seconds, one) for one in named]
    timed = [(seconds, one) for seconds, one in timed if math.isfinite(seconds.mean)]
    for _, one in timed:
        yield (
            f"{one.title}: {one.number('train_seconds')} s of training, "
            f"{one.number('seconds_per_epoch')} s per epoch."
        )
    timed.sort(key=lambda pair: pair[0].mean)
    for (fast, one), (slow, other) in pairwise(timed):
        if fast.overlaps(slow):
            yield f"The epoch times of {one.title} and {other.title} overlap."
        else:
            ratio = other.number(f"seconds_ratio_to_{one.name}")
            yield f"Per epoch, {other.title} takes {ratio} times as long as {one.title}."
