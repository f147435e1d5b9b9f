"""The launcher that submits jobs to a Slurm cluster, through submitit."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from eml.config import AUTO, Config
from eml.errors import UserError
from eml.launchers.base import JobStatus, Launcher, Probe, Result, Task, WorkItem
from eml.launchers.options import LaunchOptions
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cluster import ClusterError
from eml.launchers.slurm.job import Pack, submit
from eml.launchers.slurm.watch import Submitted, refuse_if_cancelled
from eml.machine import Deferred, Stopped
from eml.tracking import find, store, tags
from eml.tracking.readers import StoredRun
from eml.tracking.runs import now, stop_run, tag_run
from eml.training.checkpoints import Slot, claiming
from eml.training.cost import Costs, kind_of, makespan


class Slurm(Launcher):
    """Submits job arrays. The jobs continue when this process ends."""

    trains_here = False
    waits = ", plus the time that the jobs wait in the queue"

    def __init__(self, options: LaunchOptions | None = None, jobs: int = 1):
        super().__init__(options, jobs)
        self.settings = self.options.resolved()

    @classmethod
    def status(cls, runs: Collection[StoredRun]) -> dict[str, JobStatus]:
        unfinished = [run for run in runs if tags.JOB in run.tags and run.status != "FINISHED"]
        alive = None
        with suppress(ClusterError):
            alive = cluster.alive(run.tags[tags.JOB] for run in unfinished)
        states = {}
        for run in unfinished:
            job, log = run.tags[tags.JOB], run.tags.get(tags.JOB_LOG, "")
            if alive is None:
                lives, words = None, f"in job {job}"
            elif job in alive:
                lives, words = True, f"in job {job} ({alive[job]})"
            else:
                lives, words = False, f"job {job} has ended"
                if run.status not in ("FAILED", "KILLED"):  # else the run itself has the reason
                    words += f": {cluster.outcome(job)}"
            states[run.run_id] = JobStatus("slurm", lives, words, log)
        return states

    @classmethod
    def cancel(cls, parent: StoredRun) -> int:
        """As in Launcher. Raises ClusterError if this machine has no Slurm."""
        cluster.refuse_if_absent()
        # First, so that the waiting process submits no more jobs.
        tag_run(parent.run_id, {tags.CANCELLED: now()})
        runs = find.children(parent.run_id).values()
        if jobs := cluster.alive(run.tags.get(tags.JOB, "") for run in runs):
            cluster.cancel(jobs)
            next(alive for alive in cluster.polls(lambda: jobs) if not alive)
        for run in find.children(parent.run_id).values():
            if run.status in ("SCHEDULED", "RUNNING"):
                stop_run(run.run_id, "cancelled")
        slot = Slot(parent.tags[tags.PLAN_DIGEST], parent.tags[tags.CHECKPOINT])
        with claiming():
            nobody_waits = slot.acquire()
            slot.release()
        if nobody_waits:
            stop_run(parent.run_id, "cancelled")
        return len(jobs)

    def check(self, configs: Sequence[Config]) -> None:
        """Raise UserError if jobs cannot write to the store, or sbatch would reject them."""
        store.refuse_if_local()
        cluster.check(self.settings.flags)

    def device(self, device: str) -> str:
        """The device of a job, which does not depend on this machine."""
        has_gpu = any(part.startswith("gpu") for part in self.settings.slurm_gres.split(","))
        return device if device != AUTO else "cuda" if has_gpu else "cpu"

    def elapsed(self, durations: Sequence[float]) -> float:
        groups = self.settings.groups(durations)
        of_jobs = [sum(durations[index] for index in group) for group in groups]
        return makespan(of_jobs, self.settings.slurm_array_parallelism)

    def why_not_probed(self, begun: bool) -> str:
        if not cluster.is_here():
            return "times can be estimated only on the cluster"
        # A plan must not submit jobs while trainings of the same command are under way.
        return "trainings are under way" if begun else ""

    def run(self, items: Sequence[WorkItem]) -> list[Result]:
        """Carry out all items in jobs and return their results.

        Trainings in jobs of an earlier process are not submitted again. Once jobs are submitted, a
        signal raises Deferred instead of Stopped, because the jobs continue.
        """
        if probes := [item for item in items if isinstance(item, Probe)]:
            return self._probe(probes)
        tasks = [item for item in items if isinstance(item, Task)]
        if not tasks:
            return []
        trainings = Submitted(tasks, self.settings, self.costs_of)
        try:
            return trainings.wait()
        except Stopped as stopped:
            if not trainings.jobs():
                raise
            print(
                "\nstopped waiting: submitted jobs continue. The same command waits for them "
                f"again; `eml cancel {tasks[0].parent}` ends them",
                flush=True,
            )
            raise Deferred(stopped.signal_number) from None

    def costs_of(self, tasks: Iterable[Task]) -> Costs:
        """Costs of each kind of training among the tasks, without kinds whose probe failed."""
        kinds = {kind_of(task.config): task for task in tasks}
        unknown = [task for kind, task in kinds.items() if kind not in self.costs]
        if unknown:
            self._probe([Probe(config=task.config, threads=task.threads) for task in unknown])
        return self.costs

    def _probe(self, probes: list[Probe]) -> list[Result]:
        """Carry out all probes in one job. Raises UserError if the job ends without results."""
        pack = Pack(list(probes), self.settings.seconds)
        (job,) = submit([pack], "eml-probe", self.settings)
        print(f"job {job.job_id} probes each kind of training; log {job.paths.stdout}", flush=True)
        try:
            for alive in cluster.polls(lambda: [job.job_id]):
                refuse_if_cancelled()
                if not alive:
                    break
        except BaseException:
            cluster.cancel([job.job_id])
            print("nothing is submitted yet", flush=True)
            raise
        if not job.paths.result_pickle.exists():
            outcome = cluster.outcome(job.job_id)
            raise UserError(f"job {job.job_id}: {outcome}; log {job.paths.stdout}")
        results = job.result()
        pairs = zip(probes, results, strict=True)
        self.costs |= {kind_of(probe.config): result.cost for probe, result in pairs if result.cost}
        return results
