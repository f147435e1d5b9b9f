"""Lists other differences between the curves of a comparison, and warns about its runs."""

from collections.abc import Iterator, Sequence

import numpy as np

from eml.analysis.comparison import Comparison, distinct
from eml.analysis.curves import Curve, Training
from eml.analysis.labels import acts, counted, in_digits
from eml.analysis.verdicts import above_chance, evaluated_images
from eml.machine import DISTURBED

# Fields that change with the compared field.
GOES_WITH = {
    "model": ("activation", "init", "learning_rate"),
    "dataset": ("scaling_mean", "scaling_std", "train_images", "test_images"),
    "device_type": ("hardware", "threads"),
    "optimizer": ("learning_rate", "momentum"),
    "subset": ("train_images", "test_images"),
}
OF_DATA = ("scaling_mean", "scaling_std", "test_images")
OF_CODE = ("git_commit", "git_dirty", "python", "torch", "numpy")
OF_SECONDS = ("threads", "trainings_at_once")  # they decide nothing but seconds
LOGGED = (*OF_DATA, *OF_CODE, "hardware", *OF_SECONDS, "system_metrics")
SHORT = {"git_commit": 9, "dataset_digest": 9}  # characters that tell values apart
JOB = "slurm_job"  # the tag of a run that trained in a job (tracking/tags.py)
LARGEST_SWING = 0.25  # standard deviation of the seconds of an epoch, as a share of their mean
SHORTEST = 0.1  # seconds; shorter epochs always swing
SEEDS = "one seed, so no spread"
NAMED = 3  # runs that a warning about disturbances names
LEAST_CPU = 0.5  # share of threads times seconds that an undisturbed training computes


def differences(comparison: Comparison, seconds: bool = True) -> list[str]:
    """A line for each difference between the runs that is not the subject of the comparison.

    seconds: whether those count that affect the seconds alone.
    """
    trainings, curves = comparison.trainings, comparison.curves
    subject = comparison.differing[:1]
    aside = {*subject, *(other for name in subject for other in GOES_WITH.get(name, ()))}
    aside |= set(() if seconds else OF_SECONDS)
    fields_and_tags = [name for name in (*comparison.differing, *LOGGED) if name not in aside]
    names = [name for name in fields_and_tags if distinct(trainings, name) > 1]
    if len({frozenset(t.values["seed"] for t in curve.trainings) for curve in curves}) > 1:
        names.append("seed")
    # A subset depends on the seed, so compare digests of equal dataset, subset and seed.
    images = ("dataset", "subset", "seed")
    known = [t for t in trainings if isinstance(t.values.get("dataset_digest"), str)]
    if distinct(known, *images, "dataset_digest") > distinct(known, *images):
        names.append("dataset_digest")
    return [_line(name, curves) for name in names]


def _line(name: str, curves: Sequence[Curve]) -> str:
    """ "batch size: 32 (sgd; adam), 64 (rmsprop)"; without labels if all curves are alike."""
    by_values: dict[str, list[str]] = {}
    for curve in curves:
        acting = [t.values[name] for t in curve.trainings if acts(name, t.values)]
        values = {str(value)[: SHORT.get(name)] for value in acting or ["none"]}
        by_values.setdefault(", ".join(sorted(values)), []).append(curve.label)
    texts = list(by_values)
    if len(texts) > 1:
        texts = [f"{values} ({'; '.join(labels)})" for values, labels in by_values.items()]
    return f"{name.replace('_', ' ')}: {', '.join(texts)}"


def warnings(comparison: Comparison) -> list[str]:
    """Warnings about runs that look like mistakes, one line each."""
    trainings, curves = comparison.trainings, comparison.curves
    lines = []
    if alone := [curve.name for curve in curves if len(curve.trainings) == 1]:
        which = "" if len(alone) == len(curves) else f": {'; '.join(alone)}"
        lines.append(f"{SEEDS}{which}")
    if len(curves) > 1 and any(isinstance(t.values.get(JOB), str) for t in trainings):
        lines.append("trained in jobs on shared nodes: do not compare seconds")
    disturbed: dict[str, list[str]] = {}
    for training in trainings:
        name = f"run {training.run_id[:8]}"
        epoch, last = training.last_scored
        if training.complete and epoch < training.last_epoch:
            lines.append(f"the last accuracy, of epoch {epoch}, counts: {name}")
        trained = training.last_epoch > 0 and training.diverged is None
        if trained and last <= above_chance(evaluated_images([training])):
            lines.append(f"at chance after the last epoch, {last:.1%}: {name}")
        for sign, numbers in _disturbances(training):
            disturbed.setdefault(sign, []).append(f"{numbers} in {name}")
    for sign, runs in disturbed.items():
        more = f"; and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        lines.append(f"{sign}: {'; '.join(runs[:NAMED])}{more}")
    return lines


def _disturbances(training: Training) -> Iterator[tuple[str, str]]:
    """Signs that the machine did other things meanwhile, and the numbers that show it."""
    seconds = training.epoch_seconds
    mean = seconds.mean() if len(seconds) > 1 else 0.0
    if mean >= SHORTEST and (seconds / mean).std(ddof=1) > LARGEST_SWING:
        numbers = f"{in_digits(seconds.min())} to {in_digits(seconds.max())} s an epoch"
        yield "the machine was probably disturbed", numbers
    epochs, threads = (training.points[name] for name in ("epoch", "next_threads"))
    slow = training.points["slowdown"][training.points["slowdown"] >= DISTURBED]
    changes = np.flatnonzero(np.abs(np.diff(threads[:-1])) > 0) + 1  # none where one is NaN
    signs = [f"threads: {threads[i]:.0f} from epoch {epochs[i] + 1:.0f}" for i in changes]
    if len(slow):
        longest = f"up to {slow.max():.1f} times as long as when idle"
        signs.insert(0, f"{longest} in {len(slow)} of {counted(training.last_epoch, 'epoch')}")
    count = training.number("threads")
    if not signs and training.values["device_type"] == "cpu" and count > 0:  # False for NaN
        trained = training.points["train_seconds"][-1]
        computed = training.points["train_cpu_seconds"][-1]
        if computed < LEAST_CPU * count * trained:
            times = f"{in_digits(computed)} CPU seconds in {in_digits(trained)} s"
            signs = [f"{times} with {counted(int(count), 'thread')}"]
    if signs:
        yield "something else had the processor", ", ".join(signs)
