"""The launcher that submits jobs to a Slurm cluster, through submitit."""

from collections.abc import Collection, Sequence
from contextlib import suppress

from eml.config import AUTO, Config
from eml.launchers.base import JobStatus, Launcher, Result, Task
from eml.launchers.options import LaunchOptions
from eml.launchers.slurm import cluster
from eml.launchers.slurm.cluster import ClusterError
from eml.launchers.slurm.watch import Submitted
from eml.machine import Deferred, Stopped
from eml.tracking import find, store, tags
from eml.tracking.readers import StoredRun
from eml.tracking.runs import now, stop_run, tag_run
from eml.training.checkpoints import Slot, claiming


class Slurm(Launcher):
    """Submits job arrays. The jobs continue when this process ends."""

    trains_here = False

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
            states[run.run_id] = JobStatus(lives, words, log)
        return states

    @classmethod
    def cancel(cls, parent: StoredRun) -> int:
        """As in Launcher. Raises ClusterError if this machine has no Slurm."""
        cluster.refuse_if_absent()
        # First, so that the waiting process submits no more jobs.
        tag_run(parent.run_id, {tags.CANCELLED: now()})
        runs = find.children(parent.run_id).values()
        if jobs := cluster.alive(run.tags.get(tags.JOB, "") for run in runs):
            cluster.call("scancel", *jobs)
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

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        """Carry out all tasks in jobs and return their results.

        Trainings in jobs of an earlier process are not submitted again. Once jobs are submitted, a
        signal raises Deferred instead of Stopped, because the jobs continue.
        """
        if not tasks:
            return []
        trainings = Submitted(tasks, self.settings)
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
