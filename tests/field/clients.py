"""A service in a process of its own, and clients that misbehave, for the tests of this folder."""

import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(redis_url: str, folder: Path, **settings: str) -> Generator[tuple[int, subprocess.Popen[bytes], Path]]:
    """Start `python -m coreset_service`; gives its port, the process and its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    given = {"CORESET_PORT": str(port), "CORESET_REDIS_URL": redis_url, "CORESET_STORAGE": str(folder)}
    given |= {"CORESET_LOG_FORMAT": "json", "CORESET_RECONCILE_SECONDS": "0", **settings}
    log = folder / "service.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "coreset_service"]
        process = subprocess.Popen(command, env={**os.environ, **given}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield port, process, log
    finally:
        process.kill()
        process.wait()


def answers(port: int, path: str = "/healthz") -> bool:
    """Tell whether the service answers with 200 within 10 s."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def half_sent(port: int, number: int, text: bytes) -> Generator[list[socket.socket]]:
    """Open connections that send this and then nothing. One that is refused counts as closed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    sockets: list[socket.socket] = []
    try:
        for _ in range(number):
            sockets.append(socket.socket())
            sockets[-1].settimeout(2)
            try:
                sockets[-1].connect(("127.0.0.1", port))
                sockets[-1].sendall(text)
            except OSError:
                sockets[-1].close()
        yield [one for one in sockets if one.fileno() >= 0]
    finally:
        for one in sockets:
            one.close()


def still_open(sockets: list[socket.socket]) -> int:
    """Return how many of the connections the service has neither answered nor closed."""
    number = 0
    for one in sockets:
        one.settimeout(0)
        try:
            one.recv(1)
        except BlockingIOError:
            number += 1
        except OSError:
            pass
    return number


def resident(process: "subprocess.Popen[bytes]") -> int:
    """Return the megabytes that a process has in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))
