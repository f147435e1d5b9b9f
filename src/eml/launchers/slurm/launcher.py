"""The launcher that submits jobs to a Slurm cluster, through submitit."""

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from eml.config import AUTO, Config
from eml.environment import environment
from eml.errors import UserError
from eml.interrupts import Deferred, Stopped
from eml.launch_options import SlurmSettings
from eml.launchers.base import Ended, Launcher, Probe, Task
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cancel import refuse_if_cancelled
from eml.launchers.slurm.cluster import ClusterError
from eml.launchers.slurm.job import Pack
from eml.launchers.slurm.watch import Submitted
from eml.threads import VARIABLES
from eml.tracking.calls import for_other_processes
from eml.tracking.store import refuse_if_local
from eml.training.checkpoints import private_folder
from eml.training.cost import Costs, kind_of, makespan, pack

LARGEST_ARRAY = 1000  # jobs in one array; Slurm's default limit is 1001
NO_LIMIT = 1_000_000  # on requeues; Pack ends a job that makes no progress


class Slurm(Launcher):
    """Submits job arrays. The jobs continue when this process ends."""

    takes_up_jobs = True
    waits = ", plus the time that the jobs wait in the queue"

    def __init__(self, settings: SlurmSettings):
        self.settings = settings
        self.costs: Costs = {}

    def check(self, configs: Sequence[Config]) -> None:
        """Raise UserError if jobs cannot write to the store, or sbatch would reject them."""
        refuse_if_local()
        cluster.check(self.settings.flags)

    def device(self, device: str) -> str:
        """The device of a job, which does not depend on this machine."""
        if device == AUTO:
            return "cuda" if self.settings.has_gpu else "cpu"
        return device

    def elapsed(self, durations: Sequence[float]) -> float:
        lots = pack(durations, self.settings.pack_seconds)
        lasting = [sum(durations[number] for number in lot) for lot in lots]
        return makespan(lasting, self.settings.array_parallelism)

    def why_not_probed(self, begun: bool) -> str:
        if not cluster.is_here():
            return "times can be estimated only on the cluster"
        # A plan must not submit jobs while trainings of the same command are under way.
        return "trainings are under way" if begun else ""

    def run(self, tasks: Sequence[Task]) -> dict[Task, Ended]:
        """Carry out all tasks and return how each ended.

        Trainings in jobs of an earlier process are not submitted again. Once jobs are submitted, a
        signal raises Deferred instead of Stopped, because the jobs continue.
        """
        if not tasks:
            return {}
        trainings = Submitted(self, tasks)
        try:
            return trainings.wait()
        except Stopped as stopped:
            if not trainings.packs:
                raise
            print(
                "\nstopped waiting: submitted jobs continue. The same command waits for them "
                f"again; `eml cancel {tasks[0].parent}` ends them",
                flush=True,
            )
            raise Deferred(stopped.signal_number) from None

    def submit(self, packs: Sequence[Pack], name: str) -> list[submitit.Job]:
        """Submit one job for each pack, in job arrays. Raises ClusterError if sbatch fails."""
        settings = self.settings
        folder = private_folder(
            "slurm", f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:8]}"
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
        inherited = (
            dict.fromkeys(VARIABLES, str(settings.cpus))
            | for_other_processes()
            | {
                # Jobs run this code, even if another eml is installed.
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")])
                ),
            }
        )
        submitted: list[submitit.Job] = []
        # clean_env: this process may itself be in a job, whose variables must not be inherited.
        # private_files: the files are pickles, so other users must not be able to write them.
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
        """Costs of each kind of training among the tasks, without kinds whose probe failed."""
        kinds = {kind_of(task.config): task for task in tasks}
        unknown = [task for kind, task in kinds.items() if kind not in self.costs]
        if unknown:
            self.probe([Probe(config=task.config, threads=task.threads) for task in unknown])
        return self.costs

    def probe(self, probes: Sequence[Probe]) -> dict[Probe, Ended]:
        """Carry out all probes in one job. Raises UserError if the job ends without results."""
        (job,) = self.submit([Pack(list(probes), 60 * self.settings.time)], "eml-probe")
        print(f"job {job.job_id} probes each kind of training; log {job.paths.stdout}", flush=True)
        try:
            for alive in cluster.polls([job.job_id]):
                refuse_if_cancelled()
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


@contextmanager
def private_files() -> Iterator[None]:
    """In this context only this user can access new files, including those of submitted jobs."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
