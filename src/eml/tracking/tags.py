"""The names of the tags of runs, and their content."""

import re
from collections.abc import Mapping

PARENT = "mlflow.parentRunId"  # MLflow's: the run that this one is nested in
TRAINING_DIGEST = "training_digest"  # of what is trained (digests.py)
PLAN_DIGEST = "plan_digest"  # of a parent: of all that is trained (digests.py)
REUSED = "reused_runs"  # of a parent: the runs that belong to it besides its children
CHECKPOINT = "checkpoint"  # the name of the run's checkpoint (checkpoints.py)
CONTINUED_IN = "continued_in"  # of an interrupted run: the run that went on with it
PAUSED_AFTER = "paused_after"  # the epoch after which a training waits for its search
PRUNED_AFTER = "pruned_after"  # the epoch after which a search gave a training up
JOB = "slurm_job"  # the job that is to train, or trains, or has trained
JOB_LOG = "slurm_log"  # the file that this job writes to
CANCELLED = "cancelled"  # of a parent: when `eml cancel` was called
CREATION = "creation"  # a random number that identifies the run if the answer with its id is lost
COMMAND = "command"  # of a run that is not nested: the command line that made it
# Tags that are deleted when a run continues.
ENDINGS = {"stopped", "error", PAUSED_AFTER, PRUNED_AFTER, JOB, JOB_LOG, CANCELLED}
SYSTEM_METRICS = "system_metrics"  # whether they were logged during the training
# Those that affect a run's times.
TIMED = {"hardware", "threads", "trainings_at_once", SYSTEM_METRICS}
NUMBER = re.compile("[0-9]{1,9}")  # an epoch in a tag or parameter, which may hold any text


def of_all_machines(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The tags `now`; each tag in TIMED lists all values that the run has had."""
    tags = {key: before[key] for key in TIMED if key in before} | dict(now)
    for key in TIMED & before.keys() & now.keys():
        had = before[key].split(", ")
        tags[key] = ", ".join(had if now[key] in had else [*had, now[key]])
    return tags


def epoch_in(tags: Mapping[str, str], tag: str) -> int:
    """The epoch in a tag; -1 without one."""
    text = tags.get(tag, "")
    return int(text) if NUMBER.fullmatch(text) else -1
