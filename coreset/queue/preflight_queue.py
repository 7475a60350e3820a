"""Preflights on the queue: tasks without a job, ahead of all others, whose outcome RQ keeps until it is fetched."""

from contextlib import suppress
from typing import Any

from rq.exceptions import DuplicateJobError
from rq.job import JobStatus
from rq.results import Result

from coreset.entry_points import PREFLIGHT_TASK, WORKER_MODULE
from coreset.errors import CoresetError, Unavailable
from coreset.queue.connection import translate_redis_errors
from coreset.queue.job_store import fingerprint
from coreset.queue.rq_queues import RqQueues, task_meta
from coreset.queue.task_ids import GPU, task_id
from coreset.queue.worker_census import WorkerCensus
from coreset.schemas.problems import from_problem
from coreset.spec.job import JobSpec

WAIT_SECONDS = 600
"""Seconds that a preflight waits for a worker before RQ drops it."""

KEEP_SECONDS = 60
"""Seconds that an outcome is kept for a caller that asks again; an answer may be out of date by this much."""


class PreflightQueue:
    """All methods raise Unavailable when Redis does not answer."""

    def __init__(self, queues: RqQueues, workers: WorkerCensus) -> None:
        self._queues = queues
        self._workers = workers

    def check(self, spec: JobSpec) -> dict[str, Any] | None:
        """Return the outcome of a preflight of the spec, once; None while it waits or runs. To be polled.

        Enqueues the preflight unless one of the same spec exists. Fetching the outcome deletes it.

        Raises:
            CoresetError: the preflight rejected the spec, or failed itself.
            Unavailable: no worker is alive.
        """
        rq_id = _preflight_id(spec)
        if not self._workers.serve_gpu():
            raise Unavailable(
                f"no worker is alive to read shards and checkpoints; start one with `python -m {WORKER_MODULE}`"
            )
        with translate_redis_errors():
            task = self._task(rq_id, spec)
            outcome: Any = task.latest_result()
            if outcome is None:
                return None
            task.delete()
        return _answer(outcome)

    def started(self, spec: JobSpec) -> bool:
        """Return whether a worker has taken the preflight of this spec."""
        with translate_redis_errors():
            return self._queues.statuses([_preflight_id(spec)])[0] == JobStatus.STARTED.value

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
