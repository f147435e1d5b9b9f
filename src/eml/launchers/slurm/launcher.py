"""Trainings in jobs of a Slurm cluster, submitted through submitit.

The runs are made before the jobs that train in them, and say which job that is. So where each
training stands is in the tracking store alone, and another process can take over from this one.
"""

import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import sleep

import mlflow
import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from eml.environment import environment
from eml.errors import UserError
from eml.hardware import THREADS
from eml.interrupts import Deferred, Stopped, signals_held
from eml.launch_options import SlurmSettings
from eml.launchers.base import Ended, Job, Prepared, Probe, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cluster import Alive, ClusterError
from eml.launchers.slurm.job import Pack
from eml.launchers.worker import prepare
from eml.tracking import end, find, tags
from eml.tracking.calls import StoreError
from eml.tracking.digests import training_digest
from eml.tracking.find import Found
from eml.tracking.store import open_store
from eml.tracking.tags import CHECKPOINT, PAUSED_AFTER, PLAN_DIGEST, SLURM_JOB, SLURM_LOG
from eml.training.checkpoints import Place, claiming, directory
from eml.training.cost import Costs, kind_of, pack, seconds_of

POLL_SECONDS = 1.0, 10.0  # between two questions to Slurm and the store: at first, at most
PATIENCE = 600  # seconds in which Slurm may not answer, while its controller is restarted, say
NO_FAULT = "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"  # of the training: how a job may end
LARGEST_ARRAY = 1000  # jobs; Slurm's own default is 1001
NO_LIMIT = 1_000_000  # requeues: Pack ends those that lead nowhere


class CancelledError(UserError):
    """`eml cancel` was called for what this process waits for."""

    exit_code = 1


class Slurm:
    """The launcher that submits job arrays. Leaving it, or killing it, leaves the jobs alone."""

    def __init__(self, settings: SlurmSettings):
        self.settings = settings
        self.costs: Costs = {}

    def __enter__(self) -> "Slurm":
        return self

    def __exit__(self, *_) -> None:
        pass

    def run(self, jobs: Sequence[Job]) -> dict[Job, Ended]:
        """Do all jobs, and tell how each ended. What a former process has submitted is waited for.

        Raises Deferred on a signal, once trainings are submitted: these go on.
        """
        if not jobs:
            return {}
        if isinstance(jobs[0], Probe):
            return self._probe(jobs)
        trainings = _Trainings(self, jobs)
        try:
            return trainings.wait()
        except Stopped as stopped:
            if not trainings.packs:
                raise
            print(
                "\nleft: what is submitted goes on. The same command takes it up again, "
                f"`eml cancel {jobs[0].parent}` ends it",
                flush=True,
            )
            raise Deferred(stopped.signal_number) from None

    def submit(self, packs: Sequence["Pack"], name: str) -> list[submitit.Job]:
        """Submit them as a job array."""
        settings = self.settings
        folder = (
            directory() / "slurm" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:8]}"
        )
        executor = submitit.SlurmExecutor(folder, max_num_timeout=NO_LIMIT)
        executor.update_parameters(
            job_name=name,
            time=settings.time,
            array_parallelism=settings.array_parallelism,
            signal_delay_s=settings.warning_seconds,
            setup=settings.setup_lines,
            stderr_to_stdout=True,
            srun_args=[f"--cpus-per-task={settings.cpus}", "--open-mode=append"],
            additional_parameters=settings.flags | {"export": "ALL"},
        )
        inherited = dict.fromkeys(THREADS, str(settings.cpus)) | {
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            # This code, wherever another eml may be installed.
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")])
            ),
        }
        submitted: list[submitit.Job] = []
        # Not what belongs to a job that this process may itself be in. And nobody else may write
        # what is a pickle.
        with submitit.helpers.clean_env(), environment(inherited), private_files():
            try:
                for start in range(0, len(packs), LARGEST_ARRAY):
                    with executor.batch():
                        for pack in packs[start : start + LARGEST_ARRAY]:
                            submitted.append(executor.submit(pack))
            except (FailedJobError, FailedSubmissionError, OSError) as error:
                raise ClusterError(f"sbatch: {' '.join(str(error).split())}") from error
        return submitted

    def costs_of(self, tasks: Iterable[Task]) -> Costs:
        """What trainings of each kind_of take; without those that cannot be tried."""
        kinds = {kind_of(task.config): task.config for task in tasks}
        if unknown := [Probe(config=c) for key, c in kinds.items() if key not in self.costs]:
            self._probe(unknown)
        return self.costs

    def _probe(self, probes: Sequence[Probe]) -> dict[Job, Ended]:
        """Try all of them in one job."""
        (job,) = self.submit([Pack(list(probes), 60 * self.settings.time)], "eml-probe")
        print(f"job {job.job_id} tries what is to be trained; log {job.paths.stdout}", flush=True)
        try:
            for alive in _polls([job.job_id]):
                _refuse_if_cancelled()
                if not alive:
                    break
        except BaseException:
            cluster.cancel([job.job_id])
            print("nothing is submitted yet", flush=True)
            raise
        try:
            if not job.paths.result_pickle.exists():
                raise UncompletedJobError
            ended = dict(zip(probes, job.result(), strict=True))
        except UncompletedJobError as error:
            outcome = cluster.outcome(job.job_id)
            raise UserError(f"job {job.job_id}: {outcome}; log {job.paths.stdout}") from error
        self.costs |= {kind_of(p.config): e.cost for p, e in ended.items() if e.cost}
        return ended


class _Trainings:
    """Trainings of one parent run, on their way through Slurm."""

    def __init__(self, launcher: Slurm, tasks: Sequence[Task]):
        self.launcher, self.tasks = launcher, tasks
        self.ended: dict[Task, Ended] = {}
        self.shown: dict[Task, str] = {}
        self.run_ids: dict[Task, str] = {}
        self.packs: dict[str, list[Task]] = {}  # by job, in the order in which they are trained

    def wait(self) -> dict[Job, Ended]:
        """Submit, and submit again what a job that died has not begun; return when all ended."""
        prepared = self._take_up()
        while len(self.ended) < len(self.tasks):
            if prepared:
                self._submit(prepared)
            prepared = self._watch()
        return self.ended

    def _take_up(self) -> dict[Task, Prepared]:
        """Find those that are in a job already, and make the others' runs."""
        made = find.children(self.tasks[0].parent)
        found = {task: made.get(training_digest(task.config)) for task in self.tasks}
        jobs = {task: run.tags.get(SLURM_JOB, "") for task, run in found.items() if run}
        alive = cluster.alive(jobs.values())
        prepared = {}
        for task in self.tasks:
            if jobs.get(task) in alive and found[task].status != "FAILED":
                self.packs.setdefault(jobs[task], []).append(task)
                self.run_ids[task] = found[task].run_id
                continue
            one = self._prepare(task)
            if one.is_there:
                self.ended[task] = Ended()
            else:
                prepared[task] = one
        return prepared

    def _prepare(self, task: Task, again: bool = False) -> Prepared:
        one = prepare(replace(task, resume=True) if again else task)
        self.run_ids[task] = one.run_id
        return one

    def _submit(self, prepared: dict[Task, Prepared]) -> None:
        settings, tasks = self.launcher.settings, list(prepared)
        durations = [0.0]
        if len(tasks) > 1:
            costs = self.launcher.costs_of(tasks)
            durations = [_seconds_left(task, prepared[task].epochs, costs) for task in tasks]
        lots = [
            [tasks[number] for number in numbers]
            for numbers in pack(durations, settings.pack_seconds)
        ]
        packs = [
            Pack([replace(task, run_id=self.run_ids[task]) for task in lot], 60 * settings.time)
            for lot in lots
        ]
        _refuse_if_cancelled()
        with signals_held():  # what is submitted has to be known
            jobs = self.launcher.submit(packs, f"eml-{tasks[0].config.recipe}")
            self.packs |= {job.job_id: lot for job, lot in zip(jobs, lots, strict=True)}
        for job, lot in zip(jobs, lots, strict=True):
            for task in lot:
                end.note_job(self.run_ids[task], job.job_id, str(job.paths.stdout))
        ids = f"job {jobs[0].job_id}"
        if len(jobs) > 1:
            ids = f"jobs {jobs[0].job_id} to {jobs[-1].job_id}"
        print(f"{len(tasks)} trainings in {ids}; logs in {jobs[0].paths.folder}", flush=True)

    def _watch(self) -> dict[Task, Prepared]:
        """Wait until all have ended, or some have to be submitted again: these."""
        again: dict[Task, Prepared] = {}
        away = False  # the store
        for alive in _polls(self.packs):
            # Asked for after the jobs, so that what one that is gone had to write is there.
            try:
                open_store()
                children = find.children(self.tasks[0].parent)
            except StoreError as error:  # the jobs go on, so does this
                if not away:
                    print(f"{error}: waiting", flush=True)
                away = True
                continue
            away = False
            _refuse_if_cancelled()
            runs = {run.run_id: run for run in children.values()}
            for job, lot in list(self.packs.items()):
                for task in lot:
                    self._look(task, runs.get(self.run_ids[task]), job, alive.get(job))
                if job not in alive:
                    del self.packs[job]
                    open_ones = [task for task in lot if task not in self.ended]
                    for task in self._bury(job, open_ones, runs) if open_ones else []:
                        again[task] = self._prepare(task, again=True)
            if again or len(self.ended) == len(self.tasks):
                break
        return again

    def _look(self, task: Task, run: Found | None, job: str, alive: Alive | None) -> None:
        """Note how a training stands."""
        if task in self.ended:
            return
        if run is None:
            self._end(task, "its run was deleted")
            return
        paused = tags.epoch_in(run.tags, PAUSED_AFTER)
        if run.status == "FINISHED" or (task.until is not None and paused >= task.until):
            self._end(task, "")
        elif run.status == "FAILED":
            self._end(task, f"{run.reason}; log {run.tags.get(SLURM_LOG)}")
        elif alive and alive.state == run.status == "RUNNING":
            self._show(task, f"runs in job {job}", f" on {alive.why}")
        elif alive and "held" in alive.why.lower():  # which does not pass by itself
            self._show(task, f"waits in job {job} {alive.why}")
        elif alive:
            self._show(task, f"waits in job {job}", alive.why and f" ({alive})")

    def _bury(self, job: str, open_ones: list[Task], runs: Mapping[str, Found]) -> list[Task]:
        """A job is gone with trainings undone: end what it has failed on, or all if cancelled.

        Returns those that are to be submitted again.
        """
        outcome = cluster.outcome(job)
        reason = f"job {job} has ended: {outcome}"
        status = {task: runs[self.run_ids[task]].status for task in open_ones}
        log = f"; log {runs[self.run_ids[open_ones[0]]].tags.get(SLURM_LOG)}"
        if outcome.startswith("CANCELLED"):
            for task in open_ones:
                end.cancel(self.run_ids[task])
                self._end(task, f"failed: {reason}{log}")
            return []
        # By SIGTERM alone, a cluster ends a job that it has another use for.
        if outcome.startswith(NO_FAULT) or "KILLED" in status.values():
            return open_ones
        if any(PAUSED_AFTER in runs[self.run_ids[task]].tags for task in open_ones):
            return open_ones  # submitted by another process, for a shorter way
        at_work = [task for task in open_ones if status[task] == "RUNNING"]
        # A job that got to its end has nothing more to say of what it has not done.
        failed = open_ones if outcome == "COMPLETED" else at_work or open_ones[:1]
        for task in failed:
            end.fail(self.run_ids[task], reason)
            self._end(task, f"failed: {reason}{log}")
        return [task for task in open_ones if task not in failed]

    def _end(self, task: Task, reason: str) -> None:
        self.ended[task] = Ended(reason)
        self._show(task, reason or "done")

    def _show(self, task: Task, words: str, why: str = "") -> None:
        """Print what is new; why alone is not."""
        if self.shown.get(task) == words:
            return
        self.shown[task] = words
        number = self.tasks.index(task) + 1
        print(f"[{number}/{len(self.tasks)}] {task.config.run_name}: {words}{why}", flush=True)


@contextmanager
def private_files() -> Iterator[None]:
    """Files that are made within are this user's alone; so are those of a job submitted within."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def cancel(parent: Found) -> int:
    """End the jobs of a parent run, and the runs that these leave; how many jobs there were."""
    cluster.refuse_if_absent()
    end.mark_cancelled(parent.run_id)  # before all else, lest more are submitted
    runs = find.children(parent.run_id).values()
    jobs = cluster.alive(run.tags.get(SLURM_JOB, "") for run in runs)
    if jobs:
        cluster.cancel(jobs)
        _wait_for(jobs)
    for run in find.children(parent.run_id).values():
        if run.status in ("SCHEDULED", "RUNNING"):
            end.cancel(run.run_id)
    place = Place(parent.tags[PLAN_DIGEST], parent.tags[CHECKPOINT])
    with claiming():
        nobody_waits = place.hold()
        place.release()
    if nobody_waits:
        end.cancel(parent.run_id)
    return len(jobs)


def _refuse_if_cancelled() -> None:
    if end.is_cancelled():
        raise CancelledError("cancelled by `eml cancel`")


def _seconds_left(task: Task, done: int, costs: Costs) -> float:
    if kind_of(task.config) not in costs:
        return float("inf")  # it is likely to fail, but not to take others with it
    epochs = (task.until or task.config.epochs) - done
    return seconds_of(task.config, costs, epochs, begun=done > 0)


def _wait_for(jobs: Collection[str]) -> None:
    """Until they are over."""
    for alive in _polls(jobs):
        if not alive:
            return


def _polls(jobs: Collection[str]) -> Iterator[dict[str, Alive]]:
    """Those of the jobs that are alive, again and again, with growing pauses."""
    seconds, longest = POLL_SECONDS
    refused = 0.0
    while True:
        try:
            alive = cluster.alive(jobs)
        except ClusterError as error:
            refused += seconds
            if refused > PATIENCE:
                raise ClusterError(f"{error}; what is submitted goes on") from error
        else:
            refused = 0.0
            yield alive
        sleep(seconds)
        seconds = min(1.2 * seconds, longest)
