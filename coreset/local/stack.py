"""Local stack: Redis, the HTTP service and workers on one machine, as child processes that are restarted when they die.

data/redis/   the embedded Redis's append-only file
data/logs/    one log file per process, and its older lines (coreset.local.log_files)
data/plans/, data/jobs/   results (coreset.storage.storage), unless another storage is given
"""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from coreset.entry_points import SERVICE_MODULE, WORKER_MODULE, module_command
from coreset.errors import InvalidInput, Unavailable
from coreset.local.log_files import rotate
from coreset.local.redis_server import EmbeddedRedis, free_port

HOST = "127.0.0.1"
LIVED_WELL_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 30.0
LOG_LINES = 12
"""Lines of a child's log that the error about its end quotes."""


def count_gpus() -> int:
    """Return the number of GPUs that nvidia-smi lists; 0 without it. Does not import torch."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    listed = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


class Child:
    """A process that is restarted when it dies, after 1, 2, 4 ... 30 seconds."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._started = 0.0
        self._back_off = 0.5
        self._again_at: float | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._started = time.monotonic()
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches this process alone, which ends the children in the right order.
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True, umask=0o077
            )

    @property
    def ended(self) -> bool:
        """Whether the process has ended by itself after its start."""
        return self.process is not None and self.process.poll() is not None

    def last_words(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def keep_alive(self) -> None:
        """Start the process again if it has died and its back-off is over."""
        if not self.ended:
            return
        now = time.monotonic()
        if self._again_at is None:
            lived_well = now - self._started > LIVED_WELL_SECONDS
            self._back_off = 0.5 if lived_well else min(2 * self._back_off, MAX_BACK_OFF_SECONDS)
            self._again_at = now + self._back_off
        if now >= self._again_at:
            self._again_at = None
            self.start()

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for the process to end; kill it at the deadline."""
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
        data: folder for Redis, logs and results.
        environment: environment of the child processes, usually os.environ, with CORESET_* settings.
        port: port of the service; 0 takes a free one.
        workers: number of worker processes; None is one per GPU, else one on the CPU.
        redis_url: URL of an existing Redis; empty starts an embedded one.
        storage: root of the results; empty is `data`.
        drain_seconds: time for running tasks to end at the stop. Killed ones run again at the next start.
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
        """Return one line about the workers and the folders."""
        kind = f"on {self._gpus} GPU(s)" if self._gpus else "on the CPU"
        return f"{self._workers} worker(s) {kind}, results in {self.storage}, logs in {self.data / 'logs'}"

    def parts(self) -> dict[str, object]:
        """Return the same by name. Redis's URL is left out, since it may contain a password."""
        where = {"storage": self.storage, "logs": str(self.data / "logs")}
        return {"workers": self._workers, "gpus": self._gpus, **where}

    def start(self, timeout: float = 60.0) -> Self:
        """Start all processes and wait until the service is ready.

        Raises:
            InvalidInput: the data folder cannot be made.
            Unavailable: the port is taken, there is no Redis, or the service does not get ready in time.
        """
        check_free(self.port)
        self._stopping.clear()
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.data / "logs").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"the data folder {self.data} cannot be made: {error.strerror}") from error
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
        """Wait until as many workers are registered as were started; their imports take seconds.

        Raises:
            Unavailable: a worker has ended, or they are not ready in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            for worker in self.children[1:]:
                if worker.ended:
                    raise _not_started(worker)
            if _ready(self.url).get("workers", 0) >= self._workers:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"the workers were not ready within {timeout:g} s; see {self.data / 'logs'}")
            time.sleep(0.1)

    def wait(self) -> None:
        """Block until another thread calls stop(), or a signal interrupts."""
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
        return self._child("service", module_command(SERVICE_MODULE), settings)

    def _worker(self, index: int) -> Child:
        device = ["--device", str(index % self._gpus)] if self._gpus else []
        return self._child(f"worker-{index}", module_command(WORKER_MODULE, *device), {})

    def _child(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Child:
        shared = {"CORESET_REDIS_URL": self.redis_url, "CORESET_STORAGE": self.storage}
        environment = {"CORESET_LOG_FORMAT": "json", **self._environment, **shared, **settings}
        return Child(name, command, environment, self.data / "logs" / f"{name}.log")

    def _wait_ready(self, timeout: float) -> None:
        service = self.children[0]
        deadline = time.monotonic() + timeout
        while not _ready(self.url):
            if service.ended:
                raise _not_started(service)
            if time.monotonic() > deadline:
                raise Unavailable(f"the service was not ready within {timeout:g} s; see {service.log}")
            time.sleep(0.05)

    def _keep(self) -> None:
        while not self._stopping.wait(0.25):
            if self.redis is not None and not self.redis.alive():
                self.redis.restart()
            for child in self.children:
                child.keep_alive()
                rotate(child.log)
            if self.redis is not None:
                rotate(self.redis.log)


def _ready(url: str) -> dict[str, Any]:
    """Return what the service says of itself once it is ready; empty before."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False)  # a proxy does not reach the loopback
    except httpx.TransportError:
        return {}
    return answer.json() if answer.is_success else {}


def _not_started(child: Child) -> Unavailable:
    return Unavailable(f"{child.name} ended at its start; the last lines of {child.log}:\n{child.last_words()}")


def check_free(port: int) -> None:
    """Raise Unavailable if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Unavailable(f"port {port} is taken; choose another with --port (0 takes a free one)") from error
