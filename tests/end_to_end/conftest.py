"""The whole service on this machine, with a worker process, for all end-to-end tests; and a way to wait."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.spec.scores import SCORES, Score

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = "2"

Until = Callable[[Callable[[], object]], None]


def kill_worker(stack: LocalStack) -> None:
    """kill -9; the stack starts another one."""
    process = stack.children[1].process
    assert process is not None
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Redis, the HTTP service and one worker that decodes in its own process."""
    data = tmp_path_factory.mktemp("stack")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CORESET_LEASE_SECONDS": LEASE_SECONDS,
        "CORESET_LOADER_PROCESSES": "0",
    }
    with LocalStack(data, environment, port=0, workers=1) as stack:
        stack.wait_for_workers()
        yield stack


@pytest.fixture(scope="session")
def client(stack: LocalStack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="session")
def spec(tiny_pool: Path, tiny_run: Path) -> dict[str, Any]:
    """The spec of the tiny pool: all scores, a small B, 40 samples kept."""
    return {
        "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")]},
        "checkpoints": {"run": str(tiny_run)},
        "reference": {"size": 24},
        "scores": [score for score in SCORES if score is not Score.SELF_INFLUENCE],
        "select": {"k": 40},
    }


@pytest.fixture(scope="session")
def until() -> Until:
    """Look often whether something is true; fail when it is not within 400 s."""

    def wait(true: Callable[[], object]) -> None:
        deadline = time.monotonic() + 400
        while not true():
            assert time.monotonic() < deadline, "not true within 400 s"
            time.sleep(0.02)

    return wait
