"""A run that is under way: how it begins, goes on, and ends."""

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import mlflow
from mlflow.entities import Run, RunStatus, RunTag
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from eml.interrupts import Deferred, Stopped
from eml.text import printable
from eml.tracking.calls import StoreError, is_server, store_call, undisturbed, uri
from eml.tracking.end import when
from eml.tracking.find import experiment_of, nested_runs, search
from eml.tracking.mlflow_run import given_run_id
from eml.tracking.provenance import git_state, versions
from eml.tracking.store import make_store
from eml.tracking.tags import CONTINUED_IN, CREATION, ENDINGS, PAUSED_AFTER, of_all_machines

LONGEST_NOTE = 5000  # characters that MLflow takes for a tag in every store
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own run names, as "calm-fox-12"


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
    """Begin or go on with a run; one that begins has its tags from the first moment."""
    given = go_on_in or ("" if parent else given_run_id())
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
        if asked and (made := search(f"tags.{CREATION} = '{tags[CREATION]}'")):
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
    for child in nested_runs(old):
        client.set_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID, new)
    client.set_tag(new, "continues", old)
    client.set_tag(old, CONTINUED_IN, new)
    if found.info.status == RunStatus.to_string(RunStatus.RUNNING):
        client.set_terminated(old, RunStatus.to_string(RunStatus.KILLED))


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


def active_run() -> Run:
    """The run that this process is in, as the store held it when it began."""
    active = mlflow.active_run()
    assert active is not None, "no run is under way"
    return active


def where() -> str:
    """The active run and its store, for people: of a server, the page that shows it."""
    info = active_run().info
    if is_server():
        return f"{uri()}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
    return f"run {info.run_id} in {uri()}"
