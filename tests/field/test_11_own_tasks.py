"""Point 11: nobody but its owner reaches the embedded Redis, and a worker calls its own tasks only."""

import stat
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError
from rq import Callback, Queue
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from coreset.local.redis_server import EmbeddedRedis
from coreset_workers import tasks
from coreset_workers.process.own_tasks import NAMES, OWN
from tests.service.routes.test_preflight import TestWorker


def test_the_embedded_redis_asks_for_a_password(redis_server: EmbeddedRedis) -> None:
    with Redis(port=redis_server.port) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    command = Path(f"/proc/{redis_server.pid}/cmdline").read_text()
    password = redis_server.url.split(":")[2].split("@")[0]
    assert len(password) > 40
    assert password not in command
    assert stat.S_IMODE(redis_server.data.stat().st_mode) == 0o700


def test_a_function_that_is_no_task_of_ours_is_not_called(redis: Redis, tmp_path: Path) -> None:
    target, callback = tmp_path / "made-by-the-message", tmp_path / "made-by-its-callback"
    queue = Queue("gpu", connection=redis, serializer=JSONSerializer)
    pushed = queue.enqueue("os.mkdir", str(target), on_failure=Callback("os.mkdir"), meta={"path": str(callback)})
    TestWorker(["gpu"], redis).work(burst=True, logging_level=None)
    assert not target.exists()
    assert pushed.get_status(refresh=True) is JobStatus.FAILED
    assert "none of the worker's tasks" in str(pushed.latest_result().exc_string)


def test_the_tasks_that_may_be_called_exist() -> None:
    assert all(callable(getattr(tasks, name)) for name in NAMES)
    assert "os.mkdir" not in OWN
