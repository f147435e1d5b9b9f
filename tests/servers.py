"""Real servers on loopback, for tests and benchmarks: PostgreSQL, and `mlflow server`."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ADDRESS = "127.0.0.1"


class NotInstalled(Exception):  # noqa: N818, it is a reason to skip
    """What a server is made of is not on this machine."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        return free.getsockname()[1]


@contextmanager
def postgres() -> Iterator[str]:
    """A new PostgreSQL; the URI of its database "postgres". Raises NotInstalled."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's are not on the PATH
    if not found and not folders:
        raise NotInstalled("there is no PostgreSQL here (initdb; Debian: apt install postgresql)")
    programs = Path(found).parent if found else folders[-1]
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def call(program: str, *arguments: str) -> None:
        command = [*user, str(programs / program), "-D", f"{folder}/db", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, "postgres")
        port = free_port()
        call("initdb", "--username=eml", "--auth=trust", "--encoding=UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses={ADDRESS} -c fsync=off"
        call("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://eml@{ADDRESS}:{port}/postgres"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")


@contextmanager
def mlflow_server(store: str, artifacts: Path, port: int = 0) -> Iterator[str]:
    """`mlflow server` on a store, with proxied artifacts; its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://{ADDRESS}:{port}"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(600):
                try:
                    requests.get(f"{address}/health", timeout=5).raise_for_status()
                    break
                except requests.RequestException:
                    time.sleep(0.1)
            else:
                raise TimeoutError(f"no server at {address}")
            yield address
        finally:
            process.terminate()


def slurm() -> None:
    """Raise NotInstalled if the Slurm of services/slurm does not run here."""
    if not shutil.which("scontrol"):
        raise NotInstalled("there is no Slurm here (tests/services/slurm says what it takes)")
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    if "eml-test" not in shown.stdout:
        raise NotInstalled("the Slurm for tests does not run (tests/services/slurm start)")
    subprocess.run(["scancel", "-u", getpass.getuser()], check=True)  # what a test has left
