"""One real Redis for the whole test session, emptied before every test that asks for it.

There is no skip: without a server the tests that need one fail, and say how to get one.
"""

import atexit
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import structlog
import uvicorn
from redis import Redis

from coreset.local.redis_server import EmbeddedRedis
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.redis.connection import connect
from coreset.settings import ServiceSettings
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_service.app import create_app

# Before a test imports torch: one thread per process, since the models are tiny and other tests and workers share the
# cores; where there are more, they sleep while they wait for each other. Worker processes inherit both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def hush() -> None:
    """Send what is written to stderr from here on nowhere.

    After the interpreter has ended nanobind, which DuckDB 2 is bound with, lists as leaked the classes that functions
    name in annotations: over the summary of pytest, whose own references outlive the interpreter (nanobind's issue
    397). No connection is among them, and it cannot be turned off from Python. Handlers of others run before this one.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


atexit.register(hush)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of CI that skipped a test: nobody reads what a green run left out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("a test was skipped, and CI=true: the run fails", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


TINY_MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
TINY_POOL = {"samples": 180, "shards": 6}


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
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


Serve = Callable[[Redis], AbstractContextManager[str]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Start a service on a free port, in a thread; gives its URL."""

    @contextmanager
    def serving(redis: Redis) -> Iterator[str]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            service = create_app(ServiceSettings(storage=str(tmp_path / "storage")), redis=redis)
            server = uvicorn.Server(uvicorn.Config(service, log_config=None, timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            deadline = time.monotonic() + 10
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.01)
            assert server.started
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            thread.join(timeout=10)

    return serving


@pytest.fixture
def url(serve: Serve, redis: Redis) -> Iterator[str]:
    """A service on the session's Redis."""
    with serve(redis) as address:
        yield address


@pytest.fixture
def spec() -> JobSpec:
    return JobSpec.model_validate(
        {
            "pool": {"shards": ["/pool/{000000..000005}.tar"]},
            "checkpoints": {"run": "/logs/demo"},
            "select": {"fraction": 0.3},
        }
    )


@pytest.fixture(scope="session")
def tiny_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 shards of 30 samples, with demo.plan's defects in defects.parquet beside them."""
    from demo.pool import write_pool

    directory = tmp_path_factory.mktemp("tiny") / "pool"
    write_pool(directory, **TINY_POOL)
    return directory


@pytest.fixture(scope="session")
def tiny_run(tiny_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of open_clip's own trainer: two epochs of a tiny CLIP on `tiny_pool`."""
    return train_tiny(tiny_pool, tmp_path_factory.mktemp("training"))


def train_tiny(pool: Path, folder: Path) -> Path:
    """Train TINY_MODEL on a pool by open_clip's own trainer, below a folder. Returns the run."""
    from demo.train import Training, train  # imports torch: seconds

    config = folder / "tiny.json"
    config.write_text(json.dumps(TINY_MODEL))
    training = Training(name="tiny", epochs=2, batch_size=16, loader_workers=0, model_config=config)
    return train(pool, folder / "logs", training)
