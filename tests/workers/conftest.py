"""Workers as real processes, ended with their test; and a way to wait for what they do."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from coreset.queue.task_queue import TaskQueue

if TYPE_CHECKING:
    from coreset_workers.model.clip import ClipModel

LEASE = 2.0
WITH_TINY_TASKS = """
from coreset_workers.process.own_tasks import NAMES, OwnTask
OwnTask.allowed |= {f"tiny_tasks.{name}" for name in NAMES}
from coreset_workers.__main__ import main
main()
"""
ROOT = Path(__file__).parents[2]

StartWorker = Callable[..., subprocess.Popen[bytes]]
Wait = Callable[[Callable[[], object], float], float]


TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="session")
def tiny() -> "ClipModel":
    """A tiny CLIP on the CPU, all parameters counted; few words, so that activations outweigh parameters."""
    import torch

    from coreset.schemas.plan import PlannedModel
    from coreset_workers.model.clip import (
        ClipModel,  # imports open_clip: seconds, which the tests of the queue need not wait
    )

    return ClipModel.build(PlannedModel(name="tiny", config=TINY, source="spec"), torch.device("cpu"))


@pytest.fixture
def tiny_queue(redis: Redis) -> TaskQueue:
    """A queue whose tasks are tiny_tasks'."""
    return TaskQueue(redis, tasks="tiny_tasks")


@pytest.fixture
def start_worker(redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, stall_minutes: float = 10) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "CORESET_REDIS_URL": redis_url,
            "CORESET_STORAGE": str(tmp_path / "storage"),
            "CORESET_LEASE_SECONDS": str(LEASE),
            "CORESET_STALL_MINUTES": str(stall_minutes),
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent / 'process'}",
        }
        with (tmp_path / "worker.log").open("ab") as log:
            command = [sys.executable, "-c", WITH_TINY_TASKS, *arguments]
            started.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
    print((tmp_path / "worker.log").read_text() if started else "")


@pytest.fixture
def wait() -> Wait:
    """Wait until something is true, or fail at the deadline; returns the seconds it took."""

    def wait_until(true: Callable[[], object], seconds: float) -> float:
        start = time.monotonic()
        while not true():
            assert time.monotonic() - start < seconds, f"not true within {seconds} s"
            time.sleep(0.05)
        return time.monotonic() - start

    return wait_until


@pytest.fixture
def events(redis: Redis) -> Callable[[str], list[str]]:
    """What the tasks said so far, from a first word on."""

    def said(start: str = "") -> list[str]:
        words = [event.decode() for event in redis.lrange("events", 0, -1)]
        return [event for event in words if event.startswith(start)]

    return said
