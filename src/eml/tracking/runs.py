"""The life of a run: how it begins, continues, and ends with the right status."""

import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import mlflow
from mlflow.entities import Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from eml.errors import UserError, printable
from eml.machine import GIVEN_RUN, Deferred, Stopped, given_run_id
from eml.tracking import provenance, ui
from eml.tracking.calls import SECONDS_TO_CLOSE, StoreError, is_server, store_call, store_name, uri
from eml.tracking.find import Stores, experiment_of
from eml.tracking.store import make_store
from eml.tracking.tags import COMMAND, CONTINUED_IN, CREATION, ENDINGS

GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own run names, as "calm-fox-12"
UNFINISHED = ("RUNNING", "SCHEDULED")  # MLflow's status


class Paused(Exception):  # noqa: N818, not an error
    """Raised to end a run for now, as SCHEDULED, because another process will continue it."""


@contextmanager
def run(
    name: str,
    description: str,
    tags: Mapping[str, str],
    *,
    parent: str = "",
    run_id: str = "",
    take_over: str = "",
) -> Iterator[str]:
    """Begin a run, yield its id, and end the run with the right status.

    Uses the run that `mlflow run` made, if there is one, else begins a new run. The status becomes
    FINISHED; KILLED on a signal, with the tag `stopped` (signal and time); SCHEDULED on Paused or
    Deferred; FAILED on any other exception, with its message in the tag `error`.

    parent: id of the run to nest in. run_id: id of an interrupted run to continue. take_over: id
    of an interrupted run that this run replaces (see _take_over).
    """
    make_store()
    outer = mlflow.active_run()
    status, seconds = "FINISHED", 0
    ending: dict[str, str] = {}
    try:
        origin = provenance.versions() | provenance.code_state()
        if typed := provenance.command():
            origin[COMMAND] = typed
        begun_id = _start(name, parent, run_id, {**tags, **origin, MLFLOW_RUN_NOTE: description})
        if take_over:
            _take_over(take_over, begun_id)
        ui.introduce(active_run().info.experiment_id)
        yield begun_id
    except BaseException as error:
        status, ending = _ending(error)
        # Without waiting for a server that is away.
        seconds = 0 if isinstance(error, Paused) else SECONDS_TO_CLOSE
        raise
    finally:
        if (begun := mlflow.active_run()) and begun is not outer:
            _end(begun, status, ending, seconds)


def _start(name: str, parent: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Begin a run, with its tags from the first request on, or continue one; return its id."""
    existing = run_id or ("" if parent else store_call(given_run)())
    creation = {} if existing else {CREATION: uuid.uuid4().hex}
    options: dict[str, Any] = {"nested": bool(parent), "tags": {**tags, **creation}}
    experiment = "" if existing else experiment_of(parent)
    if parent and not existing:
        options |= {"experiment_id": experiment, "parent_run_id": parent}
    requested = False

    @store_call
    def start() -> mlflow.ActiveRun:
        nonlocal requested
        if existing:
            client = mlflow.MlflowClient()
            stored = client.get_run(existing)
            for tag in ENDINGS & stored.data.tags.keys():
                client.delete_tag(existing, tag)
            generated = GENERATED_NAME.fullmatch(stored.info.run_name)  # else a user's, or ours
            return mlflow.start_run(existing, run_name=name if generated else None, **options)
        # The answer may have been lost although the store has the run.
        if requested and (made := Stores().search(creation)):
            return mlflow.start_run(run_id=made[0].run_id, **options)
        requested = True
        return mlflow.start_run(run_name=name, **options)

    active = start()
    os.environ.pop(GIVEN_RUN, None)  # this process uses it now; later runs must not
    if not parent:
        store_call(mlflow.log_text)(provenance.packages(), "packages.txt")
    return str(active.info.run_id)


def given_run() -> str:
    """The id of the run that `mlflow run` made for this process; "" without one, or once taken.

    For store_call. Raises UserError if MLFLOW_RUN_ID names any other run: that stays as it is.
    """
    if not (run_id := given_run_id()):
        return ""
    run = next((run for reader in Stores().readers for run in reader.get([run_id])), None)
    if run is None:
        raise UserError(f"{GIVEN_RUN} names no run of {store_name()}: unset it")
    if run.status != "RUNNING" or run.deleted:
        raise UserError(f"{GIVEN_RUN} names a run that has ended: unset it")
    if "recipe" in run.tags or mlflow.get_run(run_id).data.metrics:
        raise UserError(f"{GIVEN_RUN} names a run that another command has begun: unset it")
    return run_id


@store_call
def _take_over(old: str, new: str) -> None:
    """Close the interrupted run `old`: the run `new` continues its work.

    The runs nested in `old` become nested in `new`.
    """
    client = mlflow.MlflowClient()
    for child in Stores().nested(old):
        client.set_tag(child.run_id, MLFLOW_PARENT_RUN_ID, new)
    client.set_tag(new, "continues", old)
    client.set_tag(old, CONTINUED_IN, new)
    if client.get_run(old).info.status == "RUNNING":
        client.set_terminated(old, "KILLED")


def _ending(error: BaseException) -> tuple[str, dict[str, str]]:
    """The status and the tags of a run that ends by an exception."""
    if isinstance(error, (Paused, Deferred)):
        return "SCHEDULED", {}
    if isinstance(error, Stopped):
        return "KILLED", {"stopped": f"{error} at {now()}"}
    return "FAILED", {"error": printable(f"{type(error).__name__}: {error}")}


def _end(active: Run, status: str, tags: Mapping[str, str], seconds: int) -> None:
    """End the active run. seconds: as in store_call; if they are set, a failure is only printed."""
    run_id = active.info.run_id

    def end_it() -> None:
        try:
            for tag, value in tags.items():
                mlflow.MlflowClient().set_tag(run_id, tag, value)
        finally:  # MLflow marks every run FINISHED that is on its stack when the process ends
            if mlflow.active_run() is active:
                mlflow.end_run(status)
            else:  # a failed try has taken it off the stack already
                mlflow.MlflowClient().set_terminated(run_id, status)

    try:
        store_call(end_it, seconds)()
    except StoreError as why:
        if not seconds:
            raise
        print(f"run {run_id} is not closed: {why}", flush=True)


def close_run(
    run_id: str,
    status: str,
    tag: str,
    message: str,
    only: Collection[str] = UNFINISHED,
    seconds: int = 0,
) -> None:
    """End a run in place of its process, with the reason in a tag.

    only: a run with another status stays as it is. seconds: as in store_call.
    """

    def end_it() -> None:
        client = mlflow.MlflowClient()
        if client.get_run(run_id).info.status in only:
            client.set_tag(run_id, tag, printable(message))
            client.set_terminated(run_id, status)

    store_call(end_it, seconds)()


def stop_run(run_id: str, why: str, only: Collection[str] = UNFINISHED, seconds: int = 0) -> None:
    """Mark a run KILLED in place of its process, with the time. only, seconds: as in close_run."""
    close_run(run_id, "KILLED", "stopped", f"{why} at {now()}", only, seconds)


def tag_run(run_id: str, tags: Mapping[str, str], seconds: int = 0) -> None:
    """Set tags of a run. seconds: as in store_call."""
    values = [RunTag(*item) for item in tags.items()]
    store_call(mlflow.MlflowClient().log_batch, seconds)(run_id, tags=values)


def now() -> str:
    """The time in words, for tags."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def active_run() -> Run:
    """The run of this process, as the store held it at the beginning."""
    active = mlflow.active_run()
    assert active is not None, "no run is under way"
    return active


def where() -> str:
    """Where to look at the active run: its page on a server, else its id and store."""
    if is_server():
        info = active_run().info
        return f"{uri()}/{ui.page(info.experiment_id, info.run_id)}"
    return f"run {active_run().info.run_id} in {uri()}"
