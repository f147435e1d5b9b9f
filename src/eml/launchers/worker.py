"""Carries out tasks in this process; all launchers use this module."""

import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager

from eml.config import Config, resolve_device
from eml.data.datasets import Dataset
from eml.errors import CheckError, UserError, printable, redacted
from eml.launchers.base import Launcher, Result, Task
from eml.machine import threads_in_environment
from eml.models import own_code
from eml.models.gradient_check import TOLERANCE, check_gradients
from eml.recipes import RECIPES
from eml.tracking import find, log, models, resume, runs, tags
from eml.tracking.calls import StoreAwayError
from eml.tracking.digests import training_digest
from eml.tracking.publish import report
from eml.training.checkpoints import Checkpoint, directory
from eml.training.cost import probe
from eml.training.loop import TrainingLoop, load_for
from eml.training.progress import MakeDisplay, display
from eml.training.threads import Asked


class Inline(Launcher):
    """Carries out one task after the other in this process."""

    in_this_run = True

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        results = []
        for number, task in enumerate(tasks, start=1):
            print(f"{number} of {len(tasks)}: {task.config.run_name}", flush=True)
            results.append(perform(task))
            if reason := results[-1].reason:
                print(f"failed: {reason}", flush=True)
        return results


def perform(task: Task, make_display: MakeDisplay = display) -> Result:
    """Carry out a task in this process and return its result.

    Raises StoreAwayError, because the next task could not reach the store either.
    """
    try:
        if task.probe:
            return Result(cost=probe(task.config, task.threads, task.code))
        train(task, make_display)
        return Result()
    except StoreAwayError:
        raise
    except UserError as error:
        return Result(error.shown())
    except Exception as error:
        print(redacted(traceback.format_exc()), end="", file=sys.stderr, flush=True)
        return Result(printable(f"{type(error).__name__}: {error}"))


def prepare(task: Task) -> str:
    """Make a SCHEDULED run, which another process carries out (Task.run_id); return its id.

    The run continues an interrupted training, if there is one.
    """
    with _run_of(task) as run:
        assert run is not None  # only a task with run_id can have a run that has ended
        log.Delivery(run.run_id, run.checkpoint.records).complete()
        raise runs.Paused
    return run.run_id


def train(task: Task, make_display: MakeDisplay = display) -> None:
    """Carry out a training in a run. Without a parent, also log the figures of its recipe."""
    with _run_of(task) as run:
        if run is None:
            return
        _train(task, run, make_display)
        if not task.parent:
            report(RECIPES[task.config.recipe], [run.run_id])


def _run_of(task: Task) -> AbstractContextManager[resume.Resumed | None]:
    config = task.config
    digest = training_digest(config)
    described = config.run_name, RECIPES[config.recipe].about
    run_tags = {
        "recipe": config.recipe,
        tags.TRAINING_DIGEST: digest,
        "trainings_at_once": str(task.threads.at_once),
    }
    if task.code:
        run_tags |= {tags.CODE: task.code, tags.CODE_CHECK: task.code_check}
    if task.run_id:
        return resume.prepared_run(task.run_id, digest, *described, run_tags)
    return resume.continued_run(
        digest,
        *described,
        run_tags,
        resume=task.resume,
        parent=task.parent,
        copy_from_others=task.copy_from_others,
    )


@own_code.errors_shown()
def _train(task: Task, run: resume.Resumed, make_display: MakeDisplay) -> None:
    records = list(run.checkpoint.records)
    delivery = log.Delivery(run.run_id, records)
    delivery.complete()
    if task.config.device_type == "cuda":  # a job's node has another GPU than the submitter's
        resolve_device("cuda")
    dataset = load_for(task.config)
    training = _begin(task, run.checkpoint, dataset)
    with make_display(training, runs.where()) as show:
        for record in training:
            records.append(record)
            # Save the checkpoint before the run gets the epoch: the checkpoint then has every
            # epoch of the run, unless saving failed.
            try:
                run.slot.save(Checkpoint(records, training.learner.training_state()))
            except OSError as error:  # a full disk must not end the training
                print(f"no checkpoint of epoch {record.epoch}: {error}", flush=True)
            delivery.offer(record)
            show(record)
            if training.threads.remark:
                print(training.threads.remark, flush=True)
    try:
        delivery.complete()
        log.log_result(records)
        if not records[-1].diverged:
            models.log_model(task.config, records[-1].epoch, training.learner.state())
    except StoreAwayError as error:
        raise StoreAwayError(
            f"{error}: the training is kept up to epoch {len(records) - 1} in {directory()}; the "
            "same command delivers it when the store answers"
        ) from error


def _begin(task: Task, checkpoint: Checkpoint, dataset: Dataset) -> TrainingLoop:
    """Begin or continue a training, and log its set-up."""
    config, records = task.config, checkpoint.records
    if task.check and not records:
        _check(config, dataset)
    last, state = (records[-1], checkpoint.state) if records else (None, None)
    training = TrainingLoop(config, dataset, last, state, _threads_of(task), task.code)
    threads = training.threads.number
    if last and threads == last.next_threads:
        threads = records[0].next_threads or threads  # the tag has the number it began with
    if task.code:  # still the file that was executed, so it can be logged
        own_code.read(task.code, config.code_sha256)
    log.log_setup(config, dataset, training.learner, threads, task.code)
    return training


def _check(config: Config, dataset: Dataset) -> None:
    error = check_gradients(config, dataset)
    log.log_metrics({"gradient_check_error": error})
    print(f"gradients against central differences: worst relative error {error:.1e}")
    if not error < TOLERANCE:
        raise CheckError("the gradients are wrong: see gradient_check_error")


def _threads_of(task: Task) -> Asked:
    """The threads of a task; where seconds are compared, those of the first training there."""
    asked = task.threads
    chosen = asked.number or threads_in_environment() or asked.at_once > 1
    if chosen or not asked.stay or task.config.device_type != "cpu":
        return asked
    return asked._replace(number=find.threads_beside(task.parent, task.config.validation))
