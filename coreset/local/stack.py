"""The whole service on one machine: Redis, the HTTP service and workers, as child processes that are kept alive.

data/redis/   the embedded Redis's append-only file
data/logs/    a file a process
data/plans/, data/jobs/   results (coreset.storage.storage), unless a storage of its own is given
"""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from coreset.entry_points import SERVICE_MODULE, WORKER_MODULE
from coreset.errors import Unavailable
from coreset.local.redis_server import EmbeddedRedis, free_port

HOST = "127.0.0.1"
LIVED_WELL_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 30.0


def count_gpus() -> int:
    """Return the number of GPUs that nvidia-smi lists; 0 without it. (This package never imports torch.)"""
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    listed = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


class Child:
    """A process that is started again when it dies, after 0.5, 1, 2 ... 30 seconds."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._started = 0.0
        self._back_off = 0.5
        self._again_at: float | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._started = time.monotonic()
        with self.log.open("ab") as log:
            # Its own session: Ctrl-C reaches us alone, and we tell the children in the right order.
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True, umask=0o077
            )

    def keep_alive(self) -> None:
        """Start it again if it has died and its time has come."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if self._again_at is None:
            lived_well = now - self._started > LIVED_WELL_SECONDS
            self._back_off = 0.5 if lived_well else min(2 * self._back_off, MAX_BACK_OFF_SECONDS)
            self._again_at = now + self._back_off
        if now >= self._again_at:
            self._again_at = None
            self.restarts += 1
            self.start()

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until the deadline for it to end, then kill it."""
        if self.process is None:
            return
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class LocalStack:
    """Redis, service and workers on this machine. Start it, or use it in a `with`.

    Args:
        data: folder of everything it writes.
        environment: of the child processes; usually os.environ. CORESET_* settings in it reach them.
        port: of the service; 0 takes a free one.
        workers: processes; None is one a GPU, else one on the CPU.
        redis_url: a Redis of yours; empty starts an embedded one.
        storage: root of the results; empty is `data`.
        drain_seconds: how long running tasks get to end at the stop. Killed ones run again at the next start.
    """

    def __init__(
        self,
        data: Path,
        environment: Mapping[str, str],
        port: int = 8000,
        workers: int | None = None,
        redis_url: str = "",
        storage: str = "",
        drain_seconds: float = 10.0,
    ) -> None:
        self.data = Path(data).resolve()
        self.port = port or free_port()
        self.redis = None if redis_url else EmbeddedRedis(self.data / "redis")
        self.redis_url = redis_url or (self.redis.url if self.redis else "")
        self.storage = storage or str(self.data)
        self._environment = dict(environment)
        self._gpus = count_gpus()
        self._workers = max(1, self._gpus) if workers is None else workers
        self._drain_seconds = drain_seconds
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None
        self.children: list[Child] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def describe(self) -> str:
        """Say in one line what runs where."""
        kind = f"on {self._gpus} GPU(s)" if self._gpus else "on the CPU"
        return f"{self._workers} worker(s) {kind}, results in {self.storage}, logs in {self.data / 'logs'}"

    def parts(self) -> dict[str, object]:
        """Return the same by name. Redis's URL may hold a password, and is left out."""
        where = {"storage": self.storage, "logs": str(self.data / "logs")}
        return {"workers": self._workers, "gpus": self._gpus, **where}

    def start(self, timeout: float = 60.0) -> Self:
        """Start all and wait until the service is ready.

        Raises:
            Unavailable: the port is taken, there is no Redis, or the service does not get ready in time.
        """
        check_free(self.port)
        self._stopping.clear()
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.data / "logs").mkdir(mode=0o700, exist_ok=True)
        try:
            if self.redis is not None:
                self.redis.start()
            self.children = [self._service(), *(self._worker(index) for index in range(self._workers))]
            for child in self.children:
                child.start()
            self._wait_ready(timeout)
        except BaseException:
            self.stop()
            raise
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        return self

    def wait_for_workers(self, timeout: float = 120.0) -> None:
        """Wait until the queue knows all workers: they import for seconds first. Raises Unavailable."""
        deadline = time.monotonic() + timeout
        while httpx.get(f"{self.url}/readyz", timeout=5.0).json().get("workers", 0) < self._workers:
            if time.monotonic() > deadline:
                raise Unavailable(f"the workers did not get ready; see {self.data / 'logs'}")
            time.sleep(0.1)

    def wait(self) -> None:
        """Block until stop() is called elsewhere, or a signal interrupts."""
        while not self._stopping.wait(0.5):
            pass

    def stop(self) -> None:
        """Stop workers and service, then Redis. May be called twice."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        deadline = time.monotonic() + self._drain_seconds
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.end(deadline)
        if self.redis is not None:
            self.redis.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _service(self) -> Child:
        settings = {"CORESET_HOST": HOST, "CORESET_PORT": str(self.port)}
        return self._child("service", [sys.executable, "-m", SERVICE_MODULE], settings)

    def _worker(self, index: int) -> Child:
        device = ["--device", str(index % self._gpus)] if self._gpus else []
        return self._child(f"worker-{index}", [sys.executable, "-m", WORKER_MODULE, *device], {})

    def _child(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Child:
        shared = {"CORESET_REDIS_URL": self.redis_url, "CORESET_STORAGE": self.storage}
        environment = {"CORESET_LOG_FORMAT": "json", **self._environment, **shared, **settings}
        return Child(name, command, environment, self.data / "logs" / f"{name}.log")

    def _wait_ready(self, timeout: float) -> None:
        service = self.children[0]
        deadline = time.monotonic() + timeout
        while not _ready(f"{self.url}/readyz"):
            died = service.process is not None and service.process.poll() is not None
            if died or time.monotonic() > deadline:
                raise Unavailable(f"the service did not get ready; see {service.log}")
            time.sleep(0.05)

    def _keep(self) -> None:
        while not self._stopping.wait(0.25):
            if self.redis is not None and not self.redis.alive():
                self.redis.restart()
            for child in self.children:
                child.keep_alive()


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).is_success
    except httpx.TransportError:
        return False


def check_free(port: int) -> None:
    """Raise Unavailable if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Unavailable(f"port {port} is taken; choose another with --port (0 takes a free one)") from error
