"""The names of the tags of runs, and their content."""

import re
from collections.abc import Mapping

PARENT = "mlflow.parentRunId"  # MLflow's: the run that this one is nested in
TRAINING_DIGEST = "training_digest"  # of what is trained (digests.py)
PLAN_DIGEST = "plan_digest"  # of a parent: of all that is trained (digests.py)
REUSED = "reused_runs"  # of a parent: the runs that belong to it besides its children
CHECKPOINT = "checkpoint"  # the name of the run's checkpoint (checkpoints.py)
CONTINUED_IN = "continued_in"  # of an interrupted run: the run that went on with it
JOB = "slurm_job"  # the job that is to train, or trains, or has trained
JOB_LOG = "slurm_log"  # the file that this job writes to
CANCELLED = "cancelled"  # of a parent: when `eml cancel` was called
CREATION = "creation"  # a random number that identifies the run if the answer with its id is lost
COMMAND = "command"  # the command line that made the run
CODE = "code"  # the path of the user's own code
CODE_CHECK = "code_check"  # what its check has found
# Tags that are deleted when a run continues.
ENDINGS = {"stopped", "error", JOB, JOB_LOG, CANCELLED}
SYSTEM_METRICS = "system_metrics"  # whether MLflow logged them during the training
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


def number_in(values: Mapping[str, str], name: str) -> int:
    """The whole number in a tag or parameter; -1 without one."""
    text = values.get(name, "")
    return int(text) if NUMBER.fullmatch(text) else -1
