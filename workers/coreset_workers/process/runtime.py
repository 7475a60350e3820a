"""Connections and settings of a worker process. Tasks are called with ids only and find the rest here."""

from dataclasses import dataclass

from redis import Redis

from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.redis.counters import Counters
from coreset.settings import WorkerSettings
from coreset.storage.storage import Storage


@dataclass(frozen=True)
class Runtime:
    """Settings, stores and queue that all tasks of a worker share."""

    settings: WorkerSettings
    redis: Redis
    store: JobStore
    queue: TaskQueue
    storage: Storage
    totals: Counters

    @classmethod
    def build(cls, settings: WorkerSettings, redis: Redis) -> "Runtime":
        return cls(settings, redis, JobStore(redis), TaskQueue(redis), Storage(settings.storage), Counters(redis))


_current: Runtime | None = None


def install(runtime: Runtime) -> Runtime:
    """Install the process-wide runtime and return it."""
    global _current
    _current = runtime
    return runtime


def current() -> Runtime:
    """Return this process's runtime.

    Raises:
        RuntimeError: no runtime was installed.
    """
    if _current is None:
        raise RuntimeError("no runtime is installed; run tasks in `python -m coreset_workers`, or call `install` first")
    return _current
