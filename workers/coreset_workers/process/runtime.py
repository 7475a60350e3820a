"""What the tasks of this process work with: built once in __main__, since tasks are called with ids only."""

from dataclasses import dataclass

from redis import Redis

from coreset.queue.counters import Counters
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.settings import WorkerSettings
from coreset.storage.storage import Storage


@dataclass(frozen=True)
class Runtime:
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
    """Make it the one of this process."""
    global _current
    _current = runtime
    return runtime


def current() -> Runtime:
    """Return this process's runtime.

    Raises:
        RuntimeError: none was installed.
    """
    if _current is None:
        raise RuntimeError("no runtime is installed: tasks run in `python -m coreset_workers`, or after `install`")
    return _current
