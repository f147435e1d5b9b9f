"""One training in one MLflow run: begun or gone on with, logged epoch by epoch, kept on disk."""

import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from eml import resuming, tracking
from eml.checkpoints import Checkpoint
from eml.config import Config
from eml.errors import CheckError
from eml.gradient_check import TOLERANCE, check_gradients
from eml.identity import training_digest
from eml.progress import Display
from eml.recipes import RECIPES
from eml.reporting import report
from eml.train import EpochRecord, Training, load_for


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be trained, and how."""

    config: Config
    parent: str = ""  # the id of the run to nest in; "" for a training of its own
    run_id: str = ""  # of the run that prepare() has made for it
    resume: bool = True  # go on where an interrupted training of the same ended
    borrow: bool = True  # even if that one belongs to something else
    until: int | None = None  # pause after that epoch
    check: bool = False  # compare the hand-written gradients with numerical ones first
    at_once: int = 1  # trainings that share this machine


class Prepared(NamedTuple):
    """A training that waits in its run for another process."""

    run_id: str
    epochs: int  # that are done
    is_there: bool  # where the task wants it: nothing is to be done


def prepare(task: Task) -> Prepared:
    """Make the run, SCHEDULED, in which another process is to train (Task.run_id).

    It has whatever an interrupted training has left to go on from.
    """
    with _run_of(task) as run:
        _catch_up(run)
        records = run.checkpoint.records
        epochs = records[-1].epoch if records else 0
        is_there = _at_pause(task, records)
        raise tracking.Paused(epochs if is_there else None)
    return Prepared(run.run_id, epochs, is_there)


def train(task: Task, display: Callable[[Training, str], Display] = Display) -> None:
    """Train in a run, with the figures of its recipe if it is not part of another's.

    display: makes what shows the training on its way, from it and words on where its run is.
    """
    with _run_of(task) as run:
        if run is None:
            return
        _train(task, run, display)
        if not task.parent:
            report(task.config.recipe, [run.run_id])


def _run_of(task: Task) -> AbstractContextManager[resuming.Resumed | None]:
    config = task.config
    digest = training_digest(config)
    described = config.run_name, inspect.getdoc(RECIPES[config.recipe])
    tags = {
        "recipe": config.recipe,
        tracking.TRAINING_DIGEST: digest,
        "trainings_at_once": str(task.at_once),
    }
    if task.run_id:
        return resuming.go_on(task.run_id, digest, *described, tags)
    return resuming.run(
        digest, *described, tags, resume=task.resume, parent=task.parent, borrow=task.borrow
    )


def _catch_up(run: resuming.Resumed) -> set[int]:
    """Log what the checkpoint has and the run lacks; the epochs that the run has then."""
    records = run.checkpoint.records
    present = tracking.logged_epochs(run.run_id)
    for record, timestamp in zip(records, run.checkpoint.timestamps, strict=True):
        if record.epoch not in present:
            tracking.log_record(record, timestamp)
    return present | {record.epoch for record in records}


def _train(task: Task, run: resuming.Resumed, display) -> None:
    config = task.config
    records, timestamps = list(run.checkpoint.records), list(run.checkpoint.timestamps)
    present = _catch_up(run)
    if _at_pause(task, records) and not run.new:
        raise tracking.Paused(records[-1].epoch)
    dataset = load_for(config)
    if task.check and not records:
        _check(config, dataset)
    training = Training(config, dataset, *((records[-1], run.checkpoint.state) if records else ()))
    tracking.log_setup(config, dataset, training.learner)
    tracking.log_config(config)
    if _at_pause(task, records):
        raise tracking.Paused(records[-1].epoch)
    with display(training, tracking.where()) as shown:
        for record in training:
            records.append(record)
            timestamps.append(time.time_ns() // 1_000_000)
            # Before it is logged, so that the checkpoint never lacks what the run has, unless it
            # could not be kept.
            _keep(run, Checkpoint(records, timestamps, training.learner.training_state()))
            if record.epoch not in present:
                tracking.log_record(record, timestamps[-1])
            shown.show(record)
            if _at_pause(task, records):
                raise tracking.Paused(record.epoch)
    tracking.log_result(records)
    if not records[-1].diverged:
        tracking.log_weights(training.learner.state())


def _keep(run: resuming.Resumed, checkpoint: Checkpoint) -> None:
    try:
        run.place.save(checkpoint)
    except OSError as error:  # a full disk is no reason to lose the training as well
        print(f"no checkpoint of epoch {checkpoint.records[-1].epoch}: {error}", flush=True)


def _at_pause(task: Task, records: Sequence[EpochRecord]) -> bool:
    if task.until is None or not records or records[-1].diverged:
        return False
    return task.until <= records[-1].epoch < task.config.epochs


def _check(config: Config, dataset) -> None:
    error = check_gradients(config, dataset)
    tracking.log_metrics({"gradient_check_error": error})
    print(f"gradients against central differences: worst relative error {error:.1e}")
    if not error < TOLERANCE:
        raise CheckError("the gradients are wrong: see gradient_check_error")
