"""Generates the sentences under a figure of the hand-in, without conclusions.

They hold numbers as references: {{lr_sweep.0.1.n}}. No sentence names an epoch that was not
trained, or ranks equal curves.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from eml.analysis.comparison import Comparison
from eml.analysis.figures import FIGURES
from eml.analysis.verdicts import NOT_JUDGED, SEPARABLE, against
from eml.handin.numbers import NamedCurve, complete
from eml.handin.sheet import Assignment


def sentences(
    assignment: Assignment, figure: str, named: Sequence[NamedCurve], comparison: Comparison
) -> list[str]:
    """Say order, best epoch, what is separable, seconds and divergence."""
    needs, lines = FIGURES[figure].needs, list[str]()
    for one in named if "test_loss" in needs else ():
        loss = f"{one.curve.split}_loss"
        if len(one.curve.band("epoch", loss)):
            whose = f" of {one.title}" if len(named) > 1 else ""
            lowest, epoch = one.number(f"lowest_{loss}"), one.number(f"lowest_{loss}_epoch")
            lines.append(f"The lowest {one.curve.split} loss{whose} is {lowest}, in epoch {epoch}.")
    # Several figures of the same accuracies: the order and the verdicts stand under the first.
    accuracies = [name for name in assignment.figures if "test_accuracy" in FIGURES[name].needs]
    if figure in accuracies[:1]:
        lines += [*_accuracies(named), *_verdicts(comparison)]
    if "train_seconds" in needs:
        lines += _seconds(named, comparison)
    for one in named:
        if diverged := one.curve.diverged:
            runs = f" in {len(diverged)} of {one.number('n')} runs," if len(one.ids) > 1 else ""
            epochs = f"epoch{'s' if len(set(diverged)) > 1 else ''}"
            lines.append(
                f"{one.opening} diverged{runs} in {epochs} {one.number('diverged_in_epoch')}."
            )
    return lines


def _accuracies(named: Sequence[NamedCurve]) -> Iterator[str]:
    """Yield the final accuracies, and the best, without the curves that have no complete run.

    Nothing if the curves have different numbers of epochs: their ends cannot be compared.
    """
    whole = complete(named)
    if len({one.curve.values["epochs"] for one in whole}) != 1:
        return
    split, several = whole[0].curve.split, len(named) > 1
    means = [round(one.curve.scores("last").mean(), 4) for one in whole]  # as printed
    parts = []
    for _, one in sorted(zip(means, whole, strict=True), key=lambda pair: -pair[0]):
        accuracy = one.number(f"final_{split}_accuracy")
        part = f"{one.title} with {accuracy}" if several else accuracy
        if len(one.ids) > 1:
            spread = f"{one.number('final_lowest')} to {one.number('final_highest')}"
            part += f" (mean of {one.number('n')} runs, {spread})"
        parts.append(part)
    order = ", in descending order" if len(set(means)) > 1 else ""
    epoch = whole[0].number("epochs")
    yield f"{split.capitalize()} accuracy after epoch {epoch}{order}: {', '.join(parts)}."
    yield _best(whole, several)


def _best(whole: Sequence[NamedCurve], several: bool) -> str:
    """Name the highest mean of the runs' own best accuracies, and each curve that has it."""
    bests = [round(one.curve.scores("best").mean(), 4) for one in whole]
    leaders = [one for one, best in zip(whole, bests, strict=True) if best == max(bests)]
    key = f"best_{whole[0].curve.split}_accuracy"
    of_runs = " (mean of the runs' own best)" if len(leaders[0].ids) > 1 else ""
    start = f"Best {whole[0].curve.split} accuracy{of_runs}: {leaders[0].number(key)}"
    epochs = []
    for one in leaders:
        best_epochs = {t.best_epoch for t in one.curve.trainings if t.complete}
        epochs.append(f"in epoch{'s' if len(best_epochs) > 1 else ''} {one.number('best_epoch')}")
    if len(leaders) == 1:
        return f"{start}{f' ({leaders[0].title})' if several else ''}, {epochs[0]}."
    titles = (one.title for one in leaders)
    return f"{start} ({', '.join(map(' '.join, zip(titles, epochs, strict=True)))})."


def _verdicts(comparison: Comparison) -> Iterator[str]:
    """Yield why no pair is judged; a table has the verdicts where any is."""
    pairs = comparison.verdicts
    if pairs and all(pair.outcome == NOT_JUDGED for pair in pairs):
        reasons = ", ".join(dict.fromkeys(pair.reason for pair in pairs))
        yield f"These differences are not judged ({reasons}): other seeds could change the order."


def _seconds(named: Sequence[NamedCurve], comparison: Comparison) -> Iterator[str]:
    timed = [one for one in named if math.isfinite(one.curve.seconds.mean)]
    for one in timed:
        total, mean = one.number("train_seconds"), one.number("seconds_per_epoch")
        yield f"{one.opening}: {total} s of training, {mean} s per epoch."
    for fast, slow in pairwise(sorted(timed, key=lambda one: one.curve.seconds.mean)):
        pairs = against(slow.curve.label, comparison.verdicts_on_seconds)
        verdict = next(pair for pair in pairs if pair.other == fast.curve.label)
        apart, but = verdict.outcome == SEPARABLE, ""
        if verdict.outcome == NOT_JUDGED:
            counts = [
                sum(len(t.epoch_seconds) for t in one.curve.trainings) for one in (fast, slow)
            ]
            apart = min(counts) > 1 and not fast.curve.seconds.overlaps(slow.curve.seconds)
            but = f" ({verdict.reason})"
        if apart:
            ratio = slow.number(f"seconds_ratio_to_{fast.name}")
            yield f"Per epoch, {slow.title} takes {ratio} times as long as {fast.title}{but}."
        else:
            one, other = sorted((fast, slow), key=named.index)  # not by their times
            yield f"The times per epoch of {one.title} and {other.title} are not told apart{but}."
