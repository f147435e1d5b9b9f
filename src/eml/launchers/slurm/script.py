"""A plain sbatch script for a single training, for those who would rather submit it themselves."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from eml.hardware import THREADS
from eml.launch_options import SlurmSettings

SCRIPT = """\
#!/bin/bash
{flags}

# {command}
# The run goes to MLFLOW_TRACKING_URI; without that, to mlflow.db where sbatch is called,
# which takes one job at a time.
{setup}export {threads}

# Slurm sends USR2 before the time is up: the training stops, the job goes back into the queue, and
# the training goes on after its last whole epoch.
go_on_later() {{
    kill -TERM "$training"
    wait "$training"
    # 143: ended by SIGTERM. Else it was at its end already.
    [ $? != 143 ] || scontrol requeue "$SLURM_JOB_ID"
}}
trap go_on_later USR2

{python} {program} {arguments} &
training=$!
wait "$training"
"""


def script(recipe: str, options: Mapping[str, object], settings: SlurmSettings) -> str:
    """The text of a script that trains what the command `eml RECIPE` with these options does."""
    flags = settings.flags | {
        "job-name": recipe,
        "output": f"{recipe}-%j.log",
        "signal": f"B:USR2@{settings.warning_seconds}",
    }
    typed = {True: "true", False: "false"}
    arguments = [recipe]
    for name, value in options.items():
        arguments += [f"--{name}", str(typed.get(value, value) if type(value) is bool else value)]
    return SCRIPT.format(
        flags="\n".join(
            f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={value}"
            for name, value in flags.items()
        ),
        command=shlex.join(["eml", *arguments]),
        setup="".join(f"{line}\n" for line in settings.setup_lines),
        threads=" ".join(f"{name}={settings.cpus}" for name in THREADS),
        python=shlex.quote(sys.executable),
        program=shlex.quote(str(Path(__file__).parents[2] / "__main__.py")),
        arguments=shlex.join(arguments),
    )
