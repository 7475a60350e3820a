"""One real Redis for the whole test session, emptied before every test that asks for it.

There is no skip: without a server the tests that need one fail, and say how to get one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from redis import Redis

from coreset.embedded import EmbeddedRedis
from coreset.queue import TaskQueue, connect
from coreset.spec import JobSpec
from coreset.store import JobStore


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Logs go to pytest's capture, without the colours and local variables of structlog's default."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(Path(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """URL of an empty Redis."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def store(redis: Redis) -> JobStore:
    return JobStore(redis)


@pytest.fixture
def queue(redis: Redis) -> TaskQueue:
    return TaskQueue(redis)


@pytest.fixture
def spec() -> JobSpec:
    return JobSpec.model_validate(
        {
            "pool": {"shards": ["pool/{000000..000005}.tar"]},
            "checkpoints": {"run": "logs/demo"},
            "select": {"fraction": 0.3},
        }
    )
