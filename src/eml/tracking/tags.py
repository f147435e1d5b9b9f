"""The tags that a run has, and what they mean."""

import re
from collections.abc import Mapping

TRAINING_DIGEST = "training_digest"  # tag: see digests.py
PLAN_DIGEST = "plan_digest"  # tag of a parent: see digests.py
CHECKPOINT = "checkpoint"  # tag: the name of a run's place (checkpoints.py)
PAUSED_AFTER = "paused_after"  # tag: the epoch after which a training waits for its search
PRUNED_AFTER = "pruned_after"  # tag: the epoch after which a search gave a training up
SLURM_JOB = "slurm_job"  # tag: the job that is to train, or trains, or has trained
SLURM_LOG = "slurm_log"  # tag: the file that this job writes to
CANCELLED = "cancelled"  # tag of a parent: when `eml cancel` was called
CREATION = "creation"  # tag: a number of its own, by which a run is found whose id got lost
# Tags that a run loses when it goes on.
ENDINGS = {"stopped", "error", PAUSED_AFTER, PRUNED_AFTER, SLURM_JOB, SLURM_LOG, CANCELLED}
TIMED = {"hardware", "threads", "trainings_at_once"}  # tags that a run's times depend on
NUMBER = re.compile("[0-9]{1,9}")  # of an epoch, in a tag or parameter that may hold anything


def of_all_machines(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Tags as they are now, but of those that its times depend on, all values that a run had."""
    tags = {key: before[key] for key in TIMED if key in before} | dict(now)
    for key in TIMED & before.keys() & now.keys():
        had = before[key].split(", ")
        tags[key] = ", ".join(had if now[key] in had else [*had, now[key]])
    return tags


def epoch_in(tags: Mapping[str, str], tag: str) -> int:
    """The epoch that a tag holds; -1 if there is none."""
    text = tags.get(tag, "")
    return int(text) if NUMBER.fullmatch(text) else -1


PARENT = "mlflow.parentRunId"  # MLflow's tag on a nested run
REUSED = "reused_runs"  # tag of a parent: runs that belong to it besides its children
CONTINUED_IN = "continued_in"  # tag of a run that was interrupted: the one that went on with it
