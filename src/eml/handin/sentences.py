"""The generated sentences under a figure. Their numbers are references: {{lr_sweep.0.1.n}}."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from eml.analysis.figures import FIGURES
from eml.analysis.verdicts import Verdict
from eml.handin.numbers import NamedCurve
from eml.handin.sheet import Assignment


def sentences(
    assignment: Assignment, figure: str, named: Sequence[NamedCurve], verdicts: Sequence[Verdict]
) -> list[str]:
    """Say order, best epoch, what is separable, seconds and divergence; without conclusions."""
    needs, lines = FIGURES[figure].needs, list[str]()
    if "test_loss" in needs:
        lines += _lowest_losses(named)
    # Several figures of the same accuracies: the order and the verdicts stand under the first.
    accuracies = [name for name in assignment.figures if "test_accuracy" in FIGURES[name].needs]
    if figure in accuracies[:1]:
        lines += [*_accuracies(named), *_separable(named, verdicts)]
    if "train_seconds" in needs:
        lines += _seconds(named)
    for one in named:
        if one.curve.diverged:
            lines.append(f"{one.title} diverged in epoch {one.number('diverged_in_epoch')}.")
    return [line[:1].upper() + line[1:] for line in lines]


def _lowest_losses(named: Sequence[NamedCurve]) -> Iterator[str]:
    for one in named:
        loss = f"{one.curve.split}_loss"
        if len(one.curve.band("epoch", loss)):
            of = f" of {one.title}" if len(named) > 1 else ""
            lowest, epoch = one.number(f"lowest_{loss}"), one.number(f"lowest_{loss}_epoch")
            yield f"The lowest {one.curve.split} loss{of} is {lowest}, in epoch {epoch}."


def _accuracies(named: Sequence[NamedCurve]) -> Iterator[str]:
    """Yield the final accuracies in descending order, and the best, without what has diverged."""
    whole = [one for one in named if len(one.curve.diverged) < len(one.curve.trainings)]
    if not whole:
        return
    split, is_one = whole[0].curve.split, len(named) == 1
    key = f"{split}_accuracy"
    means = {one.start: one.curve.band("epoch", key).mean for one in whole}
    parts = []
    for one in sorted(whole, key=lambda one: -means[one.start][-1]):
        part = one.number(f"final_{key}") if is_one else f"{one.title} {one.number(f'final_{key}')}"
        if len(one.ids) > 1:
            spread = f"{one.number('final_lowest')} to {one.number('final_highest')}"
            part += f" (mean of {one.number('n')} runs, {spread})"
        parts.append(part)
    order = "" if is_one else ", in descending order"
    epochs = whole[0].number("epochs")
    yield f"{split} accuracy after epoch {epochs}{order}: {', '.join(parts)}."
    best = max(whole, key=lambda one: means[one.start].max())
    of = "" if is_one else f" ({best.title})"
    epoch = f"epoch{'s' if len(best.ids) > 1 else ''} {best.number('best_epoch')}"
    yield f"Best {split} accuracy: {best.number(f'best_{key}')}{of}, in {epoch}."


def _separable(named: Sequence[NamedCurve], verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the pairs without a separable difference, by the paired intervals over the seeds."""
    decided = [pair for pair in verdicts if pair.decided]
    undecided = [pair for pair in decided if not pair.separable]
    if verdicts and not decided:
        yield (
            f"With n = {named[0].number('n')} there are too few seeds to tell which of these "
            "differences are more than chance."
        )
    by_label = {one.curve.label: one for one in named}
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
    timed = [one for one in named if math.isfinite(one.curve.seconds.mean)]
    for one in timed:
        total, mean = one.number("train_seconds"), one.number("seconds_per_epoch")
        yield f"{one.title}: {total} s of training, {mean} s per epoch."
    for fast, slow in pairwise(sorted(timed, key=lambda one: one.curve.seconds.mean)):
        if fast.curve.seconds.overlaps(slow.curve.seconds):
            yield f"The epoch times of {fast.title} and {slow.title} overlap."
        else:
            ratio = slow.number(f"seconds_ratio_to_{fast.name}")
            yield f"Per epoch, {slow.title} takes {ratio} times as long as {fast.title}."
