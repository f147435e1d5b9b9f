"""The run of this process: begins it, continues it, and ends it with the right status."""

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow.entities import Run, RunStatus, RunTag
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from eml.errors import printable
from eml.machine import Deferred, Stopped
from eml.tracking import ui
from eml.tracking.calls import (
    SECONDS_TO_CLOSE,
    StoreError,
    is_server,
    store_call,
    undisturbed,
    uri,
    writing_artifacts,
)
from eml.tracking.end import when
from eml.tracking.find import experiment_of
from eml.tracking.mlflow_run import GENERATED_NAME, given_run_id
from eml.tracking.provenance import command, git_tags, uncommitted, versions
from eml.tracking.store import make_store
from eml.tracking.stores import Stores
from eml.tracking.tags import (
    COMMAND,
    CONTINUED_IN,
    CREATION,
    ENDINGS,
    PAUSED_AFTER,
    of_all_machines,
)

CHANGES = "uncommitted.diff"  # artifact: what the code differs in from its commit


class Paused(Exception):  # noqa: N818, not an error
    """Raised to end a run for now, as SCHEDULED, because it will continue later.

    epoch: the epoch after which the training waits for its search; None if it waits for its turn.
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
    """A context that begins a run, yields its id, and ends the run with the right status.

    Uses the run that `mlflow run` made, if there is one, else begins a new run. The status becomes
    FINISHED; KILLED on a signal, with the tag `stopped` (signal and time); SCHEDULED on Paused or
    Deferred; FAILED on any other exception, with its message in the tag `error`.

    parent: id of the run to nest in. go_on_in: id of an interrupted run to continue. take_over: id
    of an interrupted run that this run replaces (see _take_over). before: tags of the run whose
    epochs this run continues, if any.
    """
    make_store()
    status, ending, in_order = RunStatus.FINISHED, {}, False
    with ExitStack() as beginning:
        beginning.enter_context(undisturbed())
        # start_run() as a context manager knows FINISHED and FAILED only.
        active = _start(parent, go_on_in, of_all_machines(before or {}, tags))
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
            ending["stopped"] = when(stopped)
            raise
        except BaseException as error:
            status = RunStatus.FAILED
            ending["error"] = printable(f"{type(error).__name__}: {error}")
            raise
        finally:
            _end(active.info.run_id, RunStatus.to_string(status), ending, in_order)


def _start(parent: str, go_on_in: str, tags: Mapping[str, str]) -> mlflow.ActiveRun:
    """Begin a run, with its tags from the first request on, or continue one."""
    given = go_on_in or ("" if parent else given_run_id())
    tags = {**tags, CREATION: uuid.uuid4().hex}
    asked = False  # whether a new run was requested

    @store_call
    def start() -> mlflow.ActiveRun:
        nonlocal asked
        if go_on_in:
            client = mlflow.MlflowClient()
            for tag in ENDINGS & client.get_run(go_on_in).data.tags.keys():
                client.delete_tag(go_on_in, tag)
        if given:
            return mlflow.start_run(run_id=given, nested=bool(parent), tags=tags)
        # The answer may be lost although the store has the run.
        if asked and (made := Stores().find({CREATION: tags[CREATION]})):
            return mlflow.start_run(run_id=made[0].run_id, nested=bool(parent))
        asked = True
        if parent:
            return mlflow.start_run(
                experiment_id=experiment_of(parent), nested=True, parent_run_id=parent, tags=tags
            )
        return mlflow.start_run(tags=tags)

    if given:
        del tags[CREATION]
    active = start()
    MLFLOW_RUN_ID.unset()  # this process uses it now; later runs must not
    return active


@store_call
def _describe(
    active: mlflow.ActiveRun, name: str, description: str, own_name: bool, take_over: str
) -> None:
    """Name the active run unless its user has, set its note, and take over the old run."""
    if take_over:
        _take_over(take_over, active.info.run_id)
    if own_name or GENERATED_NAME.fullmatch(active.info.run_name):
        mlflow.set_tag(MLFLOW_RUN_NAME, name)
    if not own_name and (typed := command()):
        mlflow.set_tag(COMMAND, typed)
    changes = uncommitted()
    note = description[: ui.LONGEST_TAG]
    mlflow.set_tags({**versions(), **git_tags(changes), MLFLOW_RUN_NOTE: note})
    ui.introduce(active.info.experiment_id)
    if changes:
        with (
            tempfile.TemporaryDirectory() as folder,
            writing_artifacts(active.info.artifact_uri),
        ):
            Path(folder, CHANGES).write_bytes(changes)
            mlflow.log_artifacts(folder)


def _take_over(old: str, new: str) -> None:
    """Close the interrupted run `old`: the run `new` continues its work.

    The runs nested in `old` become nested in `new`.
    """
    client = mlflow.MlflowClient()
    found = client.get_run(old)
    for child in Stores().nested(old):
        client.set_tag(child.run_id, MLFLOW_PARENT_RUN_ID, new)
    client.set_tag(new, "continues", old)
    client.set_tag(old, CONTINUED_IN, new)
    if found.info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_terminated(old, RunStatus.to_string(RunStatus.KILLED))


def _end(run_id: str, status: str, tags: Mapping[str, str], in_order: bool) -> None:
    """End the active run. in_order: False tries a server once instead of waiting for it."""

    def end() -> None:
        if tags:
            client = mlflow.MlflowClient()
            client.log_batch(run_id, tags=[RunTag(*item) for item in tags.items()])
        end_alone()

    def end_alone() -> None:
        active = mlflow.active_run()
        if active and active.info.run_id == run_id:
            mlflow.end_run(status)
        else:  # a failed try has taken it off MLflow's stack already
            mlflow.MlflowClient().set_terminated(run_id, status)

    try:
        store_call(once=0 if in_order else SECONDS_TO_CLOSE)(end)()
    except BaseException as error:
        # MLflow marks every run FINISHED that is on its stack when the process ends.
        with suppress(StoreError):
            store_call(once=SECONDS_TO_CLOSE)(end_alone)()
        if in_order or not isinstance(error, StoreError):
            raise
        print(f"run {run_id} is not closed: {error}", flush=True)


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
