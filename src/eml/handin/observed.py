"""What a figure shows, in sentences. Their numbers are names, as {{mlp_vs_cnn.cnn.best_epoch}}."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from eml.analysis.curves import Curve, curves, over_seeds
from eml.analysis.leads import leaders
from eml.analysis.options import FigureName
from eml.analysis.report import alone_in
from eml.analysis.seconds import epoch_seconds
from eml.analysis.verdicts import Verdict
from eml.handin.evidence import Evidence
from eml.handin.numbers import names_of, titles_of
from eml.handin.sheet import Trainings


@dataclass(frozen=True)
class Drawn:
    """A curve, its name in sentences, and the beginning of the names of its numbers."""

    title: str
    start: str
    curve: Curve

    def number(self, key: str) -> str:
        return f"{{{{{self.start}.{key}}}}}"


def observed(
    trainings: Trainings, figure: FigureName, evidence: Evidence, verdicts: list[Verdict]
) -> list[str]:
    """The sentences for one figure."""
    history, varies = evidence.history, trainings.of.varies
    article = "the " if varies in ("model", "device_type") else ""
    drawn = [
        Drawn(article + title, f"{trainings.recipe}.{name}" if name else trainings.recipe, curve)
        for title, name, curve in zip(
            titles_of(history, varies), names_of(history, varies), curves(history), strict=True
        )
    ]
    if figure == "loss_over_epochs":
        sentences = [sentence for each in drawn for sentence in _losses(each)]
    else:
        x = "epoch" if figure.endswith("over_epochs") else "train_seconds"
        # Not in each figure of the same runs again.
        is_first = figure == next(name for name in trainings.figures if "accuracy" in name)
        sentences = [*(_best(drawn) if is_first else ()), *_lead(drawn, x)]
        sentences += _seconds(drawn) if x == "train_seconds" else ()
        sentences += _verdicts(drawn, verdicts) if is_first else ()
    sentences = [*sentences, *_diverged(drawn)]
    if alone := alone_in(history, varies):
        sentences.append(f"{alone}.")
    return [sentence[:1].upper() + sentence[1:] for sentence in sentences]


def _losses(drawn: Drawn) -> Iterator[str]:
    split, of = drawn.curve.split, drawn.number
    train, test = (
        over_seeds(drawn.curve, "epoch", f"{name}_loss")["mean"] for name in ("train", split)
    )
    if train.empty or test.empty:
        return
    yield (
        f"The train loss goes from {of('initial_train_loss')} before training to "
        f"{of('final_train_loss')} after epoch {of('epochs')}, the {split} loss from "
        f"{of(f'initial_{split}_loss')} to {of(f'final_{split}_loss')}."
    )
    low = test.idxmin()
    lowest = f"in epoch {of(f'lowest_{split}_loss_epoch')}, at {of(f'lowest_{split}_loss')}"
    if low == test.index[-1]:
        yield f"The {split} loss is lowest after the last epoch: it still falls."
    elif train.iloc[-1] < train[low]:
        yield (
            f"The {split} loss is lowest {lowest}. From there on the train loss still falls, the "
            f"{split} loss does not: the network fits its training images, and gains nothing on "
            f"the others."
        )
    else:
        yield f"The {split} loss is lowest {lowest}."


def _best(drawn: list[Drawn]) -> Iterator[str]:
    """Best and final accuracy of one curve, or the order of several."""
    whole = [each for each in drawn if len(each.curve.diverged) < len(each.curve.trainings)]
    if not whole:
        return
    split = whole[0].curve.split
    if len(drawn) == 1:
        (one,) = whole
        several = len(one.curve.trainings) > 1
        spread = (
            f", the mean of {one.number('n')} runs that reach {one.number('final_lowest')} to "
            f"{one.number('final_highest')}"
            if several
            else ""
        )
        best = "the mean of the runs' best is" if several else "the best is"
        epochs = "epochs" if several else "epoch"
        yield (
            f"After epoch {one.number('epochs')} the {split} accuracy is "
            f"{one.number(f'final_{split}_accuracy')}{spread}; {best} "
            f"{one.number(f'best_{split}_accuracy')}, in {epochs} {one.number('best_epoch')}."
        )
        return
    key = f"{split}_accuracy"
    ordered = sorted(whole, key=lambda each: -_final(each, key))
    of_each = ", ".join(f"{each.title} ({each.number(f'final_{key}')})" for each in ordered)
    yield f"After epoch {ordered[0].number('epochs')} the order by {split} accuracy is: {of_each}."
    top = max(whole, key=lambda each: over_seeds(each.curve, "epoch", key)["mean"].max())
    epochs = "epochs" if len(top.curve.trainings) > 1 else "epoch"
    yield (
        f"The highest {split} accuracy of any epoch is {top.number(f'best_{key}')}: of "
        f"{top.title}, in {epochs} {top.number('best_epoch')}."
    )


def _final(drawn: Drawn, metric: str) -> float:
    return float(over_seeds(drawn.curve, "epoch", metric)["mean"].iloc[-1])


def _lead(drawn: list[Drawn], x: str) -> Iterator[str]:
    if len(drawn) < 2:
        return
    metric = f"{drawn[0].curve.split}_accuracy"
    leading = leaders([each.curve for each in drawn], x, metric)
    if leading.empty:
        return
    last = drawn[leading.iloc[-1]]
    before = [drawn[number] for number in leading.unique() if drawn[number] is not last]
    if x == "epoch":
        led = ", ".join(f"{each.title} leads after {each.number('epochs_led')}" for each in before)
        yield (
            f"{last.title} leads from epoch {last.number('leads_from_epoch')} to the end, and "
            f"after {last.number('epochs_led')} of {last.number('epochs')} epochs in all; {led}."
            if before
            else f"{last.title} leads after every epoch."
        )
    elif before:
        others = " and ".join(each.title for each in before)
        yield (
            f"Over training time, {last.title} leads from second "
            f"{last.number('leads_from_seconds')} on; before that, {others} did, too."
            if leading.iloc[0] == leading.iloc[-1]
            else f"Over training time, {others} {'leads' if len(before) == 1 else 'lead'} first, "
            f"and {last.title} from second {last.number('leads_from_seconds')} on."
        )
    else:
        yield f"Over training time, too, {last.title} leads from its first epoch on."


def _seconds(drawn: list[Drawn]) -> Iterator[str]:
    for each in drawn:
        yield (
            f"{each.title}: {each.number('train_seconds')} s of training, "
            f"{each.number('seconds_per_epoch')} s an epoch."
        )
    timed = [(epoch_seconds(each.curve), each) for each in drawn]
    timed.sort(key=lambda pair: pair[0].mean)
    for (fast, one), (slow, other) in pairwise(timed):
        if fast.overlaps(slow):
            yield f"The seconds an epoch of {one.title} and {other.title} are not separable."
        else:
            ratio = other.number(f"seconds_ratio_to_{one.start.rpartition('.')[2]}")
            yield f"An epoch of {other.title} takes {ratio} times as long as one of {one.title}."


def _verdicts(drawn: list[Drawn], verdicts: list[Verdict]) -> Iterator[str]:
    """Which differences are more than chance, by the paired intervals over the seeds."""
    if not verdicts:
        return
    by_label = {each.curve.label: each for each in drawn}
    decided = [pair for pair in verdicts if pair.decided]
    if not decided:
        yield (
            f"With n = {drawn[0].number('n')} there are too few seeds to tell which of these "
            "differences are more than chance."
        )
        return
    alike = [pair for pair in decided if not pair.separable]
    said = []
    for pair in alike:
        one, other = by_label[pair.curve], by_label[pair.other]
        end = f"to_{other.start.rpartition('.')[2]}"
        said.append(
            f"{one.title} and {other.title} ({one.number(f'difference_{end}')} points, 95 % "
            f"interval {one.number(f'low_{end}')} to {one.number(f'high_{end}')})"
        )
    if said:
        yield f"Not separable are {'; '.join(said)}."
    if len(alike) < len(decided):
        rest = "All other" if alike else "All"
        yield f"{rest} differences after the last epoch are separable at 95 %."


def _diverged(drawn: list[Drawn]) -> Iterator[str]:
    for each in drawn:
        if each.curve.diverged:
            yield f"{each.title} diverged in epoch {each.number('diverged_in_epoch')}."
