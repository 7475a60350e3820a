"""Tasks for tests of queue and lease: each says in the list `events` that it ran, then does what `behaviour` asks."""

import os
import signal
import time
from typing import Any

import rq

from coreset_workers.process.lease import mark_progress


def prepare(job_id: str) -> None:
    _say("prepare", job_id)


def score(job_id: str, index: int) -> None:
    runs = _say("score", job_id, index)
    _behave(_behaviour(f"score {index}"), runs)
    _say("scored", job_id, index)


def merge(job_id: str, level: int, index: int) -> None:
    _say("merge", job_id, level, index)


def finish(job_id: str) -> None:
    _say("finish", job_id)


def task_failed(task: Any, connection: Any, kind: type[BaseException], error: BaseException, trace: Any) -> None:
    _push(connection, f"failed {task.id} {kind.__name__} {'again' if task.should_retry else 'for good'}")


def _behave(behaviour: str, runs: int) -> None:
    if behaviour == "die" or (behaviour == "die once" and runs == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "raise":
        raise ValueError("as asked")
    if behaviour.startswith("slow "):
        _work(float(behaviour.removeprefix("slow ")))
    if behaviour == "hang once" and runs == 1:
        time.sleep(600)


def _work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        mark_progress()
        time.sleep(0.05)


def _say(*words: object) -> int:
    return _push(_connection(), " ".join(map(str, words)))


def _push(connection: Any, event: str) -> int:
    connection.rpush("events", event)
    return int(connection.hincrby("runs", event, 1))


def _behaviour(name: str) -> str:
    return (_connection().hget("behaviour", name) or b"").decode()


def _connection() -> Any:
    task = rq.get_current_job()
    assert task is not None
    return task.connection
