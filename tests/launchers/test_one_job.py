"""The job script of docs/cluster.md on a real Slurm: whatever ends a job, the next one goes on."""

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from support.commands import ROOT, eml_command, until
from support.interrupted import SCORES


def rows(folder: Path, query: str) -> list[tuple]:
    """What a query of the store gives; nothing while there is no store yet."""
    database = f"file:{folder / 'mlflow.db'}?mode=ro"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(database, uri=True)) as store:
        return store.execute(query).fetchall()
    return []


def in_the_middle(folder: Path, finished: int) -> bool:
    """Whether so many trainings have ended, and another has some of its 30 epochs."""
    trainings = rows(
        folder,
        "SELECT status, max(step) FROM runs JOIN tags USING (run_uuid) JOIN metrics USING"
        " (run_uuid) WHERE tags.key = 'training_digest' GROUP BY run_uuid",
    )
    ended = sum(status == "FINISHED" for status, _ in trainings)
    return ended >= finished and any(s == "RUNNING" and 3 <= n <= 25 for s, n in trainings)


def points(folder: Path) -> list[tuple]:
    """Training, metric, epoch of every point in the store."""
    return rows(
        folder,
        "SELECT tags.value, metrics.key, step, metrics.value FROM metrics JOIN tags"
        " USING (run_uuid) WHERE tags.key = 'training_digest' ORDER BY 1, 2, 3",
    )


def processes_of(job: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile
            if process.environ().get("SLURM_JOB_ID") == job and process.name() != "slurmstepd":
                yield process


def state(job: str) -> str:
    answer = subprocess.run(
        ["scontrol", "-o", "show", "job", job], capture_output=True, text=True, check=True
    )
    return re.search(r"JobState=(\w+)", answer.stdout)[1]


@pytest.mark.slow
def test_the_seven_lines_make_a_whole_sheet_over_three_jobs(
    slurm, environment, tmp_path, monkeypatch
):
    text = (ROOT / "docs/cluster.md").read_text()
    documented = re.search(r"<!-- job -->\n```sh\n(.+?)```", text, re.DOTALL)[1]
    assert documented.count("\n") == 7
    script = documented.replace("sheet3", "sheet2")
    script, changed = re.subn(r"-p exercise-eml .*--time 30:00", "--time 1", script)
    assert changed == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    broken.mkdir()
    unbroken.mkdir()
    (broken / ".venv").symlink_to(sys.prefix)
    (broken / "sheet2.sh").write_text(script)
    submit = ["sbatch", "--parsable", "sheet2.sh"]
    jobs = [subprocess.check_output(submit, cwd=broken, text=True).strip() for _ in range(3)]

    # The first job hangs until its time limit; Slurm continues its processes to end them.
    until(lambda: in_the_middle(broken, 2))
    for process in processes_of(jobs[0]):
        process.suspend()
    checkpoints = {"EML_CHECKPOINT_DIR": str(tmp_path / "others")}
    with (unbroken / "sheet2.log").open("w") as log:
        command = eml_command("sheet2")
        subprocess.run(command, cwd=unbroken, env=os.environ | checkpoints, stdout=log, check=True)
    until(lambda: state(jobs[0]) == "TIMEOUT")

    until(lambda: in_the_middle(broken, 4))
    for process in processes_of(jobs[1]):
        process.kill()
    until(lambda: state(jobs[2]) == "COMPLETED")
    assert state(jobs[1]) in ("FAILED", "NODE_FAIL")

    log = (broken / "sheet2.log").read_text()
    assert "DUE TO TIME LIMIT" in log
    for why in ("SIGTERM", "its process is gone"):  # in the plan of the next job
        assert re.search(rf"stopped: {why}.*, [1-9]\d* of 30 epochs done\n", log)
    assert log.splitlines()[-1] == (unbroken / "sheet2.log").read_text().splitlines()[-1]
    assert {path.name for path in (broken / "ex2").iterdir()} == {
        *("handin.toml", "ex2.pdf", "ex2.zip")
    }
    status = "SELECT status FROM runs"
    assert Counter(rows(broken, status)) == Counter(rows(unbroken, status))
    assert [row[:3] for row in points(broken)] == [row[:3] for row in points(unbroken)]
    ours, expected = ([r for r in points(f) if r[1] in SCORES] for f in (broken, unbroken))
    assert len(ours) == 6 * 31 * len(SCORES)
    assert ours == expected
