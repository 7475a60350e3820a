"""A job's tasks without the work: what the queue and the store do for a shard is done, and nothing is scored."""

import time
from typing import Any

from coreset.schemas.job import JobStatus, Reason
from coreset.schemas.manifest import File, ShardSummary
from coreset_workers.process.lease import mark_progress
from coreset_workers.process.runtime import Runtime, current

SLEEP = "scale:sleep"
"""Seconds that each score takes."""

FIRST = "scale:first"
"""When the first score began, by the clock of all processes on this machine."""


def score(job_id: str, task: int) -> None:
    run = current()
    if run.store.cancel_requested(job_id):
        return
    seconds = _first(run, job_id)
    run.store.shard_started(job_id, task, "none")
    if seconds:
        mark_progress()
        time.sleep(seconds)
    part = File(uri=f"{task:06d}.parquet", size=0, sha256="")
    run.store.shard_done(
        job_id, ShardSummary(shard=task, uri="", part=part, read=1, scored=1, seconds=seconds, device="none")
    )


_seconds: dict[str, float] = {}


def _first(run: Runtime, job_id: str) -> float:
    """Note the beginning, once a process and job. Returns how long a score takes."""
    if job_id not in _seconds:
        redis: Any = run.redis
        redis.setnx(f"{FIRST}:{job_id}", repr(time.time()))
        _seconds[job_id] = float(redis.get(SLEEP) or 0)
    return _seconds[job_id]


def merge(job_id: str, level: int, index: int) -> None:
    current().store.cancel_requested(job_id)


def finish(job_id: str) -> None:
    store = current().store
    store.transition(job_id, JobStatus.REDUCING)
    store.transition(job_id, JobStatus.SUCCEEDED)


def task_failed(task: Any, connection: Any, kind: Any, error: BaseException, traceback: Any) -> None:
    current().store.transition(task.args[0], JobStatus.FAILED, Reason(code="task-failed", message=repr(error)))
