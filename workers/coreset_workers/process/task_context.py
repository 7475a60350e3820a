"""Context of a running task: ids in every log line, a line at its start and its end, and counters."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import structlog
from rq.job import Job as Task
from structlog.contextvars import bound_contextvars

from coreset.queue.task_queue import RETRIES
from coreset.redis.counters import Counters
from coreset_workers.process.activity import Activity

log = structlog.get_logger("workers.task")


class TaskContext:
    """Makes the context in which a task runs."""

    def __init__(self, totals: Counters, activity: Activity) -> None:
        self._totals = totals
        self._activity = activity

    @contextmanager
    def __call__(self, task: Task) -> Generator[None]:
        name = name_of(task)
        started = time.monotonic()
        with bound_contextvars(**ids_of(task)), self._activity.doing("other"):
            self._totals.add({f"attempts:{name}": 1})
            log.info("task started")
            try:
                yield
            finally:
                seconds = time.monotonic() - started
                self._totals.add({f"task_seconds:{name}": seconds})
                log.info("task ended", seconds=round(seconds, 3))


def name_of(task: Task) -> str:
    """Return the name of the task's function: prepare, train, score, merge, finish, trial, conclude or check."""
    return str(task.func_name).rsplit(".", 1)[-1]


def attempt_of(task: Task) -> int:
    """Return the number of the attempt, from 1. A task without retries, such as a check, has one attempt."""
    return 1 if task.retries_left is None else RETRIES + 1 - task.retries_left


def ids_of(task: Task) -> dict[str, object]:
    """Return the ids of the task, its attempt, its job, and the request that caused it."""
    ids: dict[str, object] = {"task": task.id, "attempt": attempt_of(task)}
    first = task.args[0] if task.args else None
    if isinstance(first, str):  # a check has a spec, and no job
        ids["job"] = first
    if "request_id" in task.meta:
        ids["request_id"] = task.meta["request_id"]
    return ids
