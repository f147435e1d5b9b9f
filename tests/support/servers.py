"""Real servers on loopback, for tests and benchmarks: PostgreSQL, and `mlflow server`."""

import getpass
import http.server
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
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
        return int(free.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """A new PostgreSQL; the URI of its database "postgres". Raises NotInstalled."""
    initdb = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's are not on the PATH
    if not initdb and not folders:
        raise NotInstalled("there is no PostgreSQL here (initdb; Debian: apt install postgresql)")
    programs = Path(initdb).parent if initdb else folders[-1]
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
    """Raise NotInstalled if the Slurm of support/slurm does not run here."""
    if not shutil.which("scontrol"):
        raise NotInstalled("there is no Slurm here (tests/support/slurm says what it takes)")
    answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    if "eml-test" not in answer.stdout:
        raise NotInstalled("the Slurm for tests does not run (tests/support/slurm start)")
    subprocess.run(["scancel", "-u", getpass.getuser()], check=True)  # what a test has left


class Proxy(http.server.ThreadingHTTPServer):
    """Passes HTTP requests on to a server, or behaves as a bad network does. A context manager.

    behave: what it does with a request from now on: "pass"; "drop", without a word; "hang",
    without an answer; "fail", with a 500; "busy", with a 429; "reset", with a reset connection;
    "lose", which passes one request to `runs/create` on, drops its answer, and passes from then on.
    """

    daemon_threads = True

    def __init__(self, target: str):
        super().__init__((ADDRESS, 0), _Handler)
        self.target, self.address = target, f"http://{ADDRESS}:{self.server_port}"
        self.behave = "pass"
        self.asks_for = ""  # the header Authorization without which it answers with 401
        self.refused = threading.Event()  # a request was not passed on, or its answer was lost
        self.ended = threading.Event()

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Stay silent about a client that was stopped."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy, behave = self.server, self.server.behave
        if proxy.asks_for and self.headers.get("Authorization") != proxy.asks_for:
            self.send_error(401)
            return
        if behave in ("pass", "lose"):
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            url = proxy.target + self.path
            answer = requests.request(self.command, url, data=body, headers=headers, timeout=60)
            if behave == "pass" or not self.path.endswith("/runs/create"):
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.end_headers()
                self.wfile.write(answer.content)
                return
            proxy.behave = "pass"
        if behave in ("fail", "busy"):
            self.send_error(500 if behave == "fail" else 429)
        proxy.refused.set()
        if behave == "hang":
            proxy.ended.wait()
        if behave == "reset":  # SO_LINGER of 0 seconds: RST in place of FIN
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
