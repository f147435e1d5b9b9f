"""Cancels a parent run: ends its jobs and the runs of its trainings."""

from eml.errors import UserError
from eml.launchers.slurm import cluster
from eml.tracking import end, find
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import CHECKPOINT, PLAN_DIGEST, SLURM_JOB
from eml.training.checkpoints import Place, claiming


class CancelledError(UserError):
    """`eml cancel` has cancelled the run of this process."""

    exit_code = 1


def cancel(parent: StoredRun) -> int:
    """End the jobs of a parent run and the runs of its trainings; return the number of jobs."""
    cluster.refuse_if_absent()
    end.mark_cancelled(parent.run_id)  # first, so that the waiting process submits no more jobs
    runs = find.children(parent.run_id).values()
    jobs = cluster.alive(run.tags.get(SLURM_JOB, "") for run in runs)
    if jobs:
        cluster.cancel(jobs)
        cluster.wait_for(jobs)
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


def refuse_if_cancelled() -> None:
    """Raise CancelledError if `eml cancel` has cancelled the run of this process."""
    if end.is_cancelled():
        raise CancelledError("cancelled by `eml cancel`")
