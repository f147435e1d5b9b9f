"""Writes runs to the MLflow tracking store; history.py reads them."""

import json
import math
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import requests
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Run, RunStatus, RunTag
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eml.calls import StoreError, is_server, store_call, undisturbed, uri
from eml.config import Config
from eml.data import Dataset
from eml.errors import UserError
from eml.history import CONTINUED_IN, REUSED
from eml.identity import training_digest
from eml.learner import Learner
from eml.provenance import git_state, versions
from eml.stopping import Deferred, Stopped
from eml.store import full_run_id, is_there, make_store
from eml.text import printable
from eml.train import EpochRecord

TRAINING_DIGEST = "training_digest"  # tag: see identity.py
PLAN_DIGEST = "plan_digest"  # tag of a parent: see identity.py
CHECKPOINT = "checkpoint"  # tag: the name of a run's place (checkpoints.py)
PAUSED_AFTER = "paused_after"  # tag: the epoch after which a training waits for its search
PRUNED_AFTER = "pruned_after"  # tag: the epoch after which a search gave a training up
SLURM_JOB = "slurm_job"  # tag: the job that is to train, or trains, or has trained
SLURM_LOG = "slurm_log"  # tag: the file that this job writes to
CANCELLED = "cancelled"  # tag of a parent: when `eml cancel` was called
CREATION = "creation"  # tag: a number of its own, by which a run is found whose id got lost
LONGEST_NOTE = 5000  # characters that MLflow takes for a tag in every store
MODEL_FOLDER = "model"  # artifact folder of the weights
# Tags that a run loses when it goes on.
ENDINGS = {"stopped", "error", PAUSED_AFTER, PRUNED_AFTER, SLURM_JOB, SLURM_LOG, CANCELLED}
TIMED = {"hardware", "threads", "trainings_at_once"}  # tags that a run's times depend on
NUMBER = re.compile("[0-9]{1,9}")  # of an epoch, in a tag or parameter that may hold anything
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own run names, as "calm-fox-12"


class TrackingError(UserError):
    """The store does not hold what was asked for; the message says what is missing."""


class Paused(Exception):  # noqa: N818, it is no error
    """Ends a run for now: it is to go on later.

    epoch: after which it waits for the others of its search; None if it waits for its turn.
    """

    def __init__(self, epoch: int | None = None):
        super().__init__(epoch)
        self.epoch = epoch


@contextmanager
def run(
    name: str,
    description: str,
    tags: Mapping[str, str],
    *,
    parent: str = "",
    go_on_in: str = "",
    take_over: str = "",
    before: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A run that ends with the right status, whatever ends it; its id.

    The run that `mlflow run` made is used where there is one, else a new one begins. Its status
    becomes FINISHED; KILLED on a signal, with the tag `stopped` (which signal, when); SCHEDULED
    when Paused or Deferred; FAILED on any other exception, with its message in the tag `error`.

    parent: the id of the run that it is nested in. go_on_in: the id of an interrupted run, to be
    used again; take_over: of one that this run takes the place of (see _take_over). before: the
    tags of the run whose epochs it has, if any.
    """
    make_store()
    status, ending, in_order = RunStatus.FINISHED, {}, False
    with ExitStack() as beginning:
        beginning.enter_context(undisturbed())
        # Not start_run() as context manager: it knows FINISHED and FAILED only.
        active = _start(parent, go_on_in, _of_all_machines(before or {}, tags))
        try:
            _describe(active, name, description, own_name=bool(parent), take_over=take_over)
            beginning.close()
            yield active.info.run_id
            in_order = True
        except Paused as paused:
            status, in_order = RunStatus.SCHEDULED, True
            if paused.epoch is not None:
                ending[PAUSED_AFTER] = str(paused.epoch)
            raise
        except Deferred:
            status = RunStatus.SCHEDULED
            raise
        except Stopped as stopped:
            status = RunStatus.KILLED
            ending["stopped"] = _when(stopped)
            raise
        except BaseException as error:
            status = RunStatus.FAILED
            ending["error"] = printable(f"{type(error).__name__}: {error}")
            raise
        finally:
            _end(active.info.run_id, RunStatus.to_string(status), ending, in_order)


def _start(parent: str, go_on_in: str, tags: Mapping[str, str]) -> mlflow.ActiveRun:
    """Begin or go on with a run; one that begins has its tags from the first moment."""
    given = go_on_in or ("" if parent else os.environ.get(MLFLOW_RUN_ID.name, ""))
    tags = {**tags, CREATION: uuid.uuid4().hex}
    asked = False  # for a new run

    @store_call
    def start() -> mlflow.ActiveRun:
        nonlocal asked
        if go_on_in:
            client = mlflow.MlflowClient()
            for tag in ENDINGS & client.get_run(go_on_in).data.tags.keys():
                client.delete_tag(go_on_in, tag)
        if given:
            return mlflow.start_run(run_id=given, nested=bool(parent), tags=tags)
        # The answer may have got lost, and the run be there.
        if asked and (made := _search(f"tags.{CREATION} = '{tags[CREATION]}'")):
            return mlflow.start_run(run_id=made[0].info.run_id, nested=bool(parent))
        asked = True
        if parent:
            return mlflow.start_run(
                experiment_id=experiment_of(parent), nested=True, parent_run_id=parent, tags=tags
            )
        return mlflow.start_run(tags=tags)

    if given:
        del tags[CREATION]
    active = start()
    MLFLOW_RUN_ID.unset()  # taken
    return active


@store_call
def _describe(
    active: mlflow.ActiveRun, name: str, description: str, own_name: bool, take_over: str
) -> None:
    """Name the active run, unless its user has; note what it is, and whose place it takes."""
    if take_over:
        _take_over(take_over, active.info.run_id)
    if own_name or GENERATED_NAME.fullmatch(active.info.run_name):
        mlflow.set_tag(MLFLOW_RUN_NAME, name)
    note = description[:LONGEST_NOTE]
    mlflow.set_tags({**versions(), **git_state(), MLFLOW_RUN_NOTE: note})


def _take_over(old: str, new: str) -> None:
    """Close the run `old`, which was interrupted: the run `new` goes on with what it did.

    The children of `old` become those of `new`.
    """
    client = mlflow.MlflowClient()
    found = client.get_run(old)
    for child in _children(old):
        client.set_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID, new)
    client.set_tag(new, "continues", old)
    client.set_tag(old, CONTINUED_IN, new)
    if found.info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_terminated(old, RunStatus.to_string(RunStatus.KILLED))


def _of_all_machines(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Tags as they are now, but of those that its times depend on, all values that a run had."""
    tags = {key: before[key] for key in TIMED if key in before} | dict(now)
    for key in TIMED & before.keys() & now.keys():
        had = before[key].split(", ")
        tags[key] = ", ".join(had if now[key] in had else [*had, now[key]])
    return tags


def _end(run_id: str, status: str, tags: Mapping[str, str], in_order: bool) -> None:
    """End the active run. in_order: False does not wait for a server that does not answer."""

    def end() -> None:
        if tags:
            client = mlflow.MlflowClient()
            client.log_batch(run_id, tags=[RunTag(*item) for item in tags.items()])
        end_alone()

    def end_alone() -> None:
        active = mlflow.active_run()
        if active and active.info.run_id == run_id:
            mlflow.end_run(status)
        else:  # off MLflow's stack already, by a try that failed
            mlflow.MlflowClient().set_terminated(run_id, status)

    try:
        store_call(end, patient=in_order)()
    except BaseException as error:
        # It has to be off MLflow's stack: what is on it when the process ends becomes FINISHED.
        with suppress(StoreError):
            store_call(end_alone, patient=False)()
        if in_order or not isinstance(error, StoreError):
            raise
        print(f"run {run_id} is not closed: {error}", flush=True)


def _when(stopped: Stopped) -> str:
    return f"{stopped} at {_now()}"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


@store_call(patient=False)
def refuse(run_id: str, message: str) -> None:
    """Note in the run that `mlflow run` made why it is about to fail."""
    mlflow.MlflowClient().set_tag(run_id, "error", message)


@store_call(patient=False)
def stop(run_id: str, stopped: Stopped) -> None:
    """End the run that `mlflow run` made, if the signal came before eml had begun to use it.

    When `mlflow run` is gone too, nobody else would.
    """
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_tag(run_id, "stopped", _when(stopped))
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@store_call
def log_setup(config: Config, dataset: Dataset, learner: Learner) -> None:
    """Log what the active run trains: all of its Config, its dataset, and on what it runs."""
    values = asdict(config) | {
        "scaling_mean": dataset.scaling.mean,
        "scaling_std": dataset.scaling.std,
        "train_images": len(dataset.labels["train"]),
        f"{config.evaluated}_images": len(dataset.labels[config.evaluated]),
        "parameters": sum(weights.size for weights in learner.state().values()),
    }
    # `mlflow run` has logged the -P values as they were typed ("1e-3"), and a parameter cannot
    # be changed. Ours have the same value, so the typed ones stay.
    present = mlflow.active_run().data.params
    for key in values.keys() & present.keys():
        if type(values[key])(present[key]) != values[key]:
            raise TrackingError(
                f"the run given holds {key}={present[key]}, not {values[key]}: give a new run"
            )
    mlflow.log_params({key: value for key, value in values.items() if key not in present})
    if "dataset_digest" not in mlflow.active_run().data.tags:  # else logged already: it goes on
        log_dataset(dataset)
    mlflow.set_tags(
        {
            **_of_all_machines(mlflow.active_run().data.tags, learner.hardware),
            "dataset_digest": dataset.digest,
        }
    )


@store_call
def log_dataset(dataset: Dataset) -> None:
    """Log the dataset as input of the active run."""
    source = CodeDatasetSource(tags={"eml.data": dataset.name})
    described = MetaDataset(source, name=dataset.name, digest=dataset.digest)
    try:
        mlflow.log_input(described, context="training")
    except MlflowException:
        # Of several that log a new dataset at once, MLflow lets one succeed. Now it is there.
        mlflow.log_input(described, context="training")


def log_record(record: EpochRecord, timestamp: int) -> None:
    """Log an epoch as metrics of the active run, in one request, with `step` the epoch.

    timestamp: when the epoch was over, in milliseconds since 1970.
    """
    values = asdict(record)
    epoch = values.pop("epoch")
    if epoch == 0:
        del values["images_per_second"]  # nothing was trained
    else:
        del values["setup_seconds"]  # does not change
    _log(
        [Metric(key, value, timestamp, epoch) for key, value in values.items() if value is not None]
    )


@store_call
def logged_epochs(run_id: str) -> set[int]:
    """The epochs that a run holds. One is logged with all its metrics or with none."""
    history = mlflow.MlflowClient().get_metric_history(run_id, "train_seconds")
    return {point.step for point in history}


@store_call
def log_result(records: list[EpochRecord]) -> None:
    """Log final and best accuracy, or the tag `diverged` with the epoch."""
    if records[-1].diverged:
        mlflow.set_tag("diverged", f"epoch {records[-1].epoch}")
    finite = [r for r in records if not math.isnan(r.accuracy)]
    if not finite:
        return
    name = f"{records[0].evaluated}_accuracy"
    best = max(finite, key=lambda r: r.accuracy)
    values = {f"best_{name}": best.accuracy, "best_epoch": best.epoch}
    if not records[-1].diverged:
        values[f"final_{name}"] = records[-1].accuracy
    # A run that was interrupted just before its end may have them.
    present = mlflow.active_run().data.metrics
    log_metrics({key: value for key, value in values.items() if key not in present})


def log_metrics(values: Mapping[str, float]) -> None:
    """Log values that belong to the active run as a whole, to no epoch."""
    now = time.time_ns() // 1_000_000  # the same in each try: MLflow keeps equal points once
    _log([Metric(key, value, now, 0) for key, value in values.items()])


@store_call
def _log(metrics: Sequence[Metric]) -> None:
    """In one request: all of it is logged or nothing, and what is there already once."""
    mlflow.MlflowClient().log_batch(active_run_id(), metrics=metrics)


@store_call
def log_reused(run_ids: Iterable[str]) -> None:
    """Note in the active run, a parent, which runs besides its children belong to it."""
    mlflow.set_tag(REUSED, ",".join(run_ids))


@store_call
def log_sources(run_ids: Sequence[str]) -> None:
    """Note in the active run, a comparison, which runs it compares."""
    # A tag holds 8,000 characters, 242 ids.
    for number, start in enumerate(range(0, len(run_ids), 200), start=1):
        mlflow.set_tag(f"source_runs_{number}", ",".join(run_ids[start : start + 200]))


@store_call
def log_files(folder: Path, below: str | None = None) -> None:
    """Log all files in `folder` as artifacts of the active run, in its folder `below`."""
    try:
        mlflow.log_artifacts(str(folder), below)
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise  # an answer of the store
        where = mlflow.active_run().info.artifact_uri
        raise StoreError(printable(f"artifacts cannot be written to {where}: {error}")) from error


class Found(NamedTuple):
    """A run in the store."""

    run_id: str
    name: str
    experiment_id: str
    parent: str  # the id of the run that it is nested in, or ""
    status: str  # MLflow's
    started: int  # milliseconds since 1970
    tags: dict[str, str]
    epochs: int  # that it is to train; 0 of a parent

    @property
    def is_over(self) -> bool:
        """Whether it is finished, or continued in another run."""
        return self.status == "FINISHED" or CONTINUED_IN in self.tags

    @property
    def reason(self) -> str:
        """Why it failed or stopped, in a line."""
        failed = self.status == "FAILED"
        text = self.tags.get("error" if failed else "stopped", "").strip() or "no reason is known"
        return f"{'failed' if failed else 'stopped'}: {printable(text.splitlines()[0])}"


def epoch_in(tags: Mapping[str, str], tag: str) -> int:
    """The epoch that a tag holds; -1 if there is none."""
    text = tags.get(tag, "")
    return int(text) if NUMBER.fullmatch(text) else -1


def _found(run: Run) -> Found:
    info, tags = run.info, run.data.tags
    epochs = run.data.params.get("epochs", "")
    return Found(
        run_id=info.run_id,
        name=printable(info.run_name),
        experiment_id=info.experiment_id,
        parent=tags.get(MLFLOW_PARENT_RUN_ID, ""),
        status=info.status,
        started=info.start_time,
        tags=tags,
        epochs=int(epochs) if NUMBER.fullmatch(epochs) else 0,  # anyone may have made the run
    )


@store_call
def get(run_id: str) -> Found:
    """The run with this id. Raises TrackingError if there is none."""
    return _found(_get(run_id))


@store_call
def of_checkpoint(name: str) -> Found | None:
    """The run with this checkpoint; None if it is not in this store, or was deleted."""
    found = _search(f"tags.{CHECKPOINT} = '{name}'")
    return _found(found[0]) if found else None


@store_call
def experiment_of(parent: str) -> str:
    """The id of the experiment in which a new run with this parent, or none, is made.

    "" if the experiment is still to be created.
    """
    if parent:
        return mlflow.get_run(parent).info.experiment_id
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    active = mlflow.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default"))
    return active.experiment_id if active else ""


@store_call
def prune(run_id: str, epoch: int) -> None:
    """End a paused run that is not to go on. One that was finished before is left as it is."""
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status != RunStatus.to_string(RunStatus.SCHEDULED):
        return
    client.set_tag(run_id, PRUNED_AFTER, str(epoch))
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


@store_call(patient=False)
def end_dead(run_id: str) -> None:
    """End a run whose process is gone without a word, unless another has ended or paused it."""
    if _get(run_id).info.status == RunStatus.to_string(RunStatus.RUNNING):
        why = f"its process is gone, noticed at {_now()}"
        _end_for_it(run_id, RunStatus.KILLED, "stopped", why)


@store_call
def fail(run_id: str, message: str) -> None:
    """End a run as failed whose process is gone, if it is not over."""
    _end_for_it(run_id, RunStatus.FAILED, "error", message)


@store_call
def cancel(run_id: str) -> None:
    """End a run as stopped whose process is gone, or which never had one, if it is not over."""
    _end_for_it(run_id, RunStatus.KILLED, "stopped", f"cancelled at {_now()}")


def _end_for_it(run_id: str, status: int, tag: str, message: str) -> None:
    client = mlflow.MlflowClient()
    if RunStatus.is_terminated(RunStatus.from_string(client.get_run(run_id).info.status)):
        return
    client.set_tag(run_id, tag, printable(message))
    client.set_terminated(run_id, RunStatus.to_string(status))


@store_call
def note_job(run_id: str, job: str, log: str) -> None:
    """Note the job of Slurm that is to train in a run, and the file that it writes to."""
    tags = [RunTag(SLURM_JOB, job), RunTag(SLURM_LOG, log)]
    mlflow.MlflowClient().log_batch(run_id, tags=tags)


@store_call
def mark_cancelled(parent: str) -> None:
    """Tell the process that waits for the trainings of this run that they are cancelled."""
    mlflow.MlflowClient().set_tag(parent, CANCELLED, _now())


@store_call
def is_cancelled() -> bool:
    """Whether the active run, if there is one, has been marked as cancelled."""
    active = mlflow.active_run()
    return bool(active) and CANCELLED in mlflow.get_run(active.info.run_id).data.tags


@store_call
def children(parent: str) -> dict[str, Found]:
    """The trainings nested in a run: the newest with each training digest."""
    newest_last = [run for run in _children(parent)[::-1] if TRAINING_DIGEST in run.data.tags]
    return {run.data.tags[TRAINING_DIGEST]: _found(run) for run in newest_last}


def _children(parent: str) -> list[Run]:
    """All runs nested in a run, newest first."""
    client = mlflow.MlflowClient()
    experiment, found, token = experiment_of(parent), [], None
    while token != "":
        page = client.search_runs(
            [experiment],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'",
            max_results=1000,
            page_token=token,
        )
        found += page
        token = page.token or ""
    return found


@store_call
def is_child(run_id: str, parent: str) -> bool:
    """Whether a run is nested in another."""
    return mlflow.get_run(run_id).data.tags.get(MLFLOW_PARENT_RUN_ID) == parent


@store_call
def finished_training(config: Config, parent: str = "") -> str | None:
    """The newest finished run, in any experiment, of the training with this Config.

    A run that only says so in its tag, and lacks the parameters or a result, is not one.
    parent: among the children of this run only.
    """
    digest = training_digest(config)
    chosen = f"tags.{TRAINING_DIGEST} = '{digest}' and attributes.status = 'FINISHED'"
    if parent:
        chosen += f" and tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
    result = f"final_{config.evaluated}_accuracy"
    for run in _search(chosen, most=20):
        has_config = asdict(config).keys() <= run.data.params.keys()
        if has_config and (result in run.data.metrics or "diverged" in run.data.tags):
            return run.info.run_id
    return None


@store_call
def unfinished_plan(digest: str) -> str | None:
    """The newest parent with this plan digest, if the same command would go on with it."""
    found = _search(f"tags.{PLAN_DIGEST} = '{digest}'")
    return found[0].info.run_id if found and not _found(found[0]).is_over else None


@store_call
def pruned_training(config: Config, epoch: int) -> str | None:
    """The newest run of this training that a search gave up, if it got to this epoch."""
    digest = training_digest(config)
    found = _search(f"tags.{TRAINING_DIGEST} = '{digest}' and tags.{PRUNED_AFTER} LIKE '%'")
    enough = found and epoch_in(found[0].data.tags, PRUNED_AFTER) >= epoch
    return found[0].info.run_id if enough else None


@store_call
def running() -> list[Found]:
    """All runs, in any experiment, that are RUNNING by what the store says."""
    return [_found(run) for run in _search("attributes.status = 'RUNNING'", most=1000)]


def _search(filter_string: str, most: int = 1) -> list[Run]:
    """The newest runs, in any experiment, that the filter selects; none where there is no store."""
    if not is_there():
        return []
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, filter_string, max_results=most)


def log_config(config: Config) -> None:
    """Log the Config (JSON), from which `eml evaluate` rebuilds the model.

    At the start, so that a folder of artifacts that cannot be written is not found out at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        log_files(Path(folder), MODEL_FOLDER)


def log_weights(state: Mapping[str, np.ndarray]) -> None:
    """Log the weights (safetensors, without pickle) for `eml evaluate`."""
    with tempfile.TemporaryDirectory() as folder:
        # safetensors writes the memory as it lies, whatever the strides say.
        contiguous = {name: np.ascontiguousarray(value) for name, value in state.items()}
        save_file(contiguous, Path(folder, "weights.safetensors"))
        log_files(Path(folder), MODEL_FOLDER)


@store_call
def load_model(run_id: str) -> tuple[Config, dict[str, np.ndarray], float]:
    """The Config, the weights and the logged final accuracy (Config.evaluated) of a run.

    Raises TrackingError if there is no such run, or it has no weights that can be read.
    """
    run = _get(run_id)
    run_id, metrics = run.info.run_id, run.data.metrics
    if "best_epoch" not in metrics:
        raise TrackingError(f"run {run_id} holds no finished training: give the id of one that is")
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{MODEL_FOLDER}"))
        text = (folder / "config.json").read_text()
        weights = load_file(folder / "weights.safetensors")
    except (MlflowException, OSError) as error:
        if isinstance(error.__context__, requests.RequestException):
            raise
        raise TrackingError(f"run {run_id} holds no weights ({MODEL_FOLDER}/)") from error
    except (SafetensorError, ValueError) as error:
        raise TrackingError(
            f"run {run_id}: the weights ({MODEL_FOLDER}/) are damaged: {error}"
        ) from error
    try:
        config = Config(**json.loads(text))
        return config, weights, metrics[f"final_{config.evaluated}_accuracy"]
    except KeyError as error:
        raise TrackingError(f"run {run_id} has not logged {error}: it diverged") from error
    except (TypeError, ValueError, UserError) as error:
        raise TrackingError(f"run {run_id} was made by another version of eml: {error}") from error


def _get(run_id: str) -> Run:
    """A run by its id, or by the first digits of it."""
    try:
        return mlflow.get_run(full_run_id(run_id))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise TrackingError(f"no run {printable(run_id, 100)} in the store {uri()}") from error


def active_run_id() -> str:
    return mlflow.active_run().info.run_id


def where() -> str:
    """The active run and its store, for people: of a server, the page that shows it."""
    info = mlflow.active_run().info
    if is_server():
        return f"{uri()}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
    return f"run {info.run_id} in {uri()}"
