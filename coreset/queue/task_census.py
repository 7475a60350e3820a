"""States of a job's tasks in RQ: waiting, running, failed, lost."""

from collections.abc import Iterator, Sequence

from rq.job import JobStatus

from coreset.queue.rq_queues import RqQueues
from coreset.queue.task_counts import TaskCounts
from coreset.queue.task_ids import LAST_TASKS, QUEUES, job_task_ids, kind_of
from coreset.redis.connection import translate_redis_errors

PENDING = (
    JobStatus.CREATED.value,
    JobStatus.QUEUED.value,
    JobStatus.DEFERRED.value,
    JobStatus.READY_TO_ENQUEUE.value,
    JobStatus.SCHEDULED.value,
)
"""RQ's statuses of tasks that no worker has started."""

_STATES: dict[str | None, str] = {
    **dict.fromkeys(PENDING, "waiting"),
    JobStatus.DEFERRED.value: "deferred",
    JobStatus.STARTED.value: "running",
    JobStatus.FINISHED.value: "ended",
    JobStatus.FAILED.value: "failed",
    JobStatus.STOPPED.value: "failed",
    JobStatus.CANCELED.value: "gone",
    None: "gone",
}


class TaskCensus:
    """All methods raise Unavailable when Redis does not answer."""

    def __init__(self, queues: RqQueues, counts: TaskCounts) -> None:
        self._queues = queues
        self._counts = counts

    def ids(self, job_id: str) -> Iterator[str]:
        """Yield the ids of all tasks of the job, dependents first."""
        counts = self._counts
        return job_task_ids(job_id, counts.scores(job_id), counts.trials(job_id), counts.stretches(job_id))

    def running(self, job_id: str) -> list[str]:
        """Return the ids of the job's tasks that a worker has a lease on."""
        with translate_redis_errors():
            leased = [rq_id for name in QUEUES for rq_id in self._queues.leased(name)]
        return sorted(rq_id for rq_id in leased if rq_id.startswith(f"{job_id}-"))

    def by_state(self, job_id: str) -> dict[str, list[str]]:
        """Return the ids of the job's tasks by state: waiting, running, deferred, ended, failed, gone.

        The queue has no record of tasks that are `gone`: they were not created yet, or ended long ago.
        """
        ids, running = list(self.ids(job_id)), set(self.running(job_id))
        with translate_redis_errors():
            statuses = self._queues.statuses(ids)
        states: dict[str, list[str]] = {state: [] for state in dict.fromkeys(_STATES.values())}
        for rq_id, status in zip(ids, statuses, strict=True):
            states["running" if rq_id in running else _STATES[status]].append(rq_id)
        return states

    def lost(self, job_ids: Sequence[str]) -> list[str]:
        """Return the tasks that should wait but are in no queue, and that no worker has.

        RQ pops an id before it records who runs it, so a worker that dies in between loses the task. A task that was
        popped a moment ago looks the same: only one that is found twice is lost.
        """
        with translate_redis_errors():
            ids = [rq_id for job_id in job_ids for rq_id in self.ids(job_id)]
            statuses = self._queues.statuses(ids)
            queued = [rq_id for rq_id, status in zip(ids, statuses, strict=True) if status == JobStatus.QUEUED.value]
            queues = self._queues.by_name.values()
            keys = [key for queue in queues for key in (queue.key, queue.intermediate_queue_key)]
            waiting = {entry.decode() for key in keys for entry in self._queues.redis.lrange(key, 0, -1)}
            leased = {rq_id for name in QUEUES for rq_id in self._queues.leased(name)}
        return [rq_id for rq_id in queued if rq_id not in waiting and rq_id not in leased]

    def failed(self, job_ids: Sequence[str]) -> list[str]:
        """Return the jobs whose prepare, train, finish or conclude has failed for good, so that they cannot proceed."""
        with translate_redis_errors():
            stretches = {job_id: self._counts.stretches(job_id) for job_id in job_ids}
        ids = {job_id: job_task_ids(job_id, 0, 1, stretches[job_id]) for job_id in job_ids}
        last = [(job_id, rq_id) for job_id in job_ids for rq_id in ids[job_id] if kind_of(rq_id) in LAST_TASKS]
        with translate_redis_errors():
            statuses = self._queues.statuses([rq_id for _, rq_id in last])
        failed = {job for (job, _), status in zip(last, statuses, strict=True) if status == JobStatus.FAILED.value}
        return sorted(failed)

    def waiting_counts(self) -> dict[str, int]:
        """Return the number of waiting tasks by queue."""
        with translate_redis_errors():
            return {name: int(self._queues.redis.llen(queue.key)) for name, queue in self._queues.by_name.items()}

    def running_counts(self) -> dict[str, int]:
        """Return the number of tasks that a worker has a lease on, by queue."""
        with translate_redis_errors():
            return {name: len(self._queues.leased(name)) for name in QUEUES}
