"""Preflights on the queue: tasks without a job that take turns with those of jobs.

RQ keeps the outcome until it is fetched. A preflight whose callers have stopped polling is removed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rq.exceptions import DuplicateJobError
from rq.job import JobStatus
from rq.results import Result

from coreset.entry_points import PREFLIGHT_TASK, WORKER_MODULE
from coreset.errors import CoresetError, TooManyRequests, Unavailable
from coreset.queue.job_store import fingerprint
from coreset.queue.rq_queues import RqQueues, task_meta
from coreset.queue.task_ids import GPU, task_id
from coreset.queue.worker_census import WorkerCensus
from coreset.redis.connection import translate_redis_errors
from coreset.redis.keys import CHECKS
from coreset.schemas.problems import from_problem
from coreset.spec.job import JobSpec

MAX_PER_CALLER = 4
"""Largest number of preflights that one caller waits for."""

MAX_WAITING = 16
"""Largest number of preflights that all callers wait for."""

POLLED_SECONDS = 15
"""Seconds after its last poll at which a preflight is abandoned; a waiting request polls five times a second."""

WAIT_SECONDS = 600
"""Seconds that a preflight waits for a worker before RQ drops it."""

KEEP_SECONDS = 60
"""Seconds that an outcome is kept for a caller that asks again; an answer may be out of date by this much."""


class PreflightQueue:
    """All methods raise Unavailable when Redis does not answer.

    Args:
        reorder: orders the waiting tasks after one was added.
    """

    def __init__(self, queues: RqQueues, workers: WorkerCensus, reorder: Callable[[], object]) -> None:
        self._queues = queues
        self._redis = queues.redis
        self._workers = workers
        self._reorder = reorder

    def check(self, spec: JobSpec, caller: str = "") -> dict[str, Any] | None:
        """Return the outcome of a preflight of the spec, once; None while it waits or runs. To be polled.

        Enqueues the preflight unless one of the same spec exists. Fetching the outcome deletes it.

        Raises:
            CoresetError: the preflight rejected the spec, or failed itself.
            TooManyRequests: too many preflights wait, of the caller or of all.
            Unavailable: no worker is alive.
        """
        rq_id = _preflight_id(spec)
        self.drop_abandoned()
        if not self._workers.serve_gpu():
            raise Unavailable(
                f"no worker is alive to read shards and checkpoints; start one with `python -m {WORKER_MODULE}`"
            )
        with translate_redis_errors():
            self._record_poll(rq_id, caller)
            task = self._task(rq_id, spec)
            outcome: Any = task.latest_result()
            if outcome is None:
                return None
            task.delete()
            self._forget(rq_id)
        return _answer(outcome)

    def started(self, spec: JobSpec) -> bool:
        """Return whether a worker has taken the preflight of this spec."""
        with translate_redis_errors():
            return self._queues.statuses([_preflight_id(spec)])[0] == JobStatus.STARTED.value

    def drop_abandoned(self) -> None:
        """Remove the preflights from the queue that no caller has polled for POLLED_SECONDS."""
        with translate_redis_errors():
            seconds, _ = self._redis.time()
            late = self._redis.zrange(CHECKS, "-inf", seconds - POLLED_SECONDS, byscore=True)
            if not late:
                return
            self._redis.zrem(CHECKS, *late)
            polled = {entry.split(b" ")[0] for entry in self._redis.zrange(CHECKS, 0, -1)}
            ids = [entry.split(b" ")[0].decode() for entry in late if entry.split(b" ")[0] not in polled]
            self._drop(ids)

    def _record_poll(self, rq_id: str, caller: str) -> None:
        """Record that the caller waits for a preflight. Raises TooManyRequests if it is one too many."""
        waiting = [entry.decode().partition(" ") for entry in self._redis.zrange(CHECKS, 0, -1)]
        if (rq_id, " ", caller) not in waiting:
            own = sum(name == caller for _, _, name in waiting)
            if own >= MAX_PER_CALLER or len(waiting) >= MAX_WAITING:
                limit = f"{MAX_PER_CALLER} of this caller" if own >= MAX_PER_CALLER else f"{MAX_WAITING} in all"
                raise TooManyRequests(f"too many checks wait ({limit} may); wait for one to end", retry_after=5)
        seconds, _ = self._redis.time()
        self._redis.zadd(CHECKS, {f"{rq_id} {caller}": seconds})

    def _drop(self, ids: Sequence[str]) -> None:
        for rq_id, status in zip(ids, self._queues.statuses(ids), strict=True):
            if status == JobStatus.QUEUED.value and self._redis.lrem(self._queues.by_name[GPU].key, 1, rq_id):
                self._queues.delete_records([rq_id])

    def _forget(self, rq_id: str) -> None:
        entries = [entry for entry in self._redis.zrange(CHECKS, 0, -1) if entry.split(b" ")[0].decode() == rq_id]
        if entries:
            self._redis.zrem(CHECKS, *entries)

    def _task(self, rq_id: str, spec: JobSpec) -> Any:
        queue = self._queues.by_name[GPU]
        existing = queue.fetch_job(rq_id)
        if existing is not None:
            return existing
        task = queue.create_job(
            PREFLIGHT_TASK,
            args=[spec.model_dump(mode="json")],
            job_id=rq_id,
            timeout=-1,
            ttl=WAIT_SECONDS,
            result_ttl=KEEP_SECONDS,
            failure_ttl=KEEP_SECONDS,
            meta=task_meta(),
            description="check",
        )
        with suppress(DuplicateJobError):
            queue.enqueue_job(task, at_front=True, unique=True)
            self._reorder()
        return task


def _preflight_id(spec: JobSpec) -> str:
    return task_id("check", fingerprint(spec)[:32])


def _answer(outcome: Any) -> dict[str, Any]:
    """Return the preflight of an outcome. Raises the problem that it holds."""
    if outcome.type is not Result.Type.SUCCESSFUL:
        raise CoresetError("the check failed; the worker's log has the details")
    answer: dict[str, Any] = outcome.return_value
    if "problem" in answer:
        raise from_problem(answer["problem"])
    return answer["preflight"]
