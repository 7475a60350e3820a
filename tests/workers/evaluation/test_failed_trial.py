"""A trial that has failed for good: the job goes on, and knows why."""

import pytest
from redis import Redis
from rq.job import Job as Task
from rq.serializers import JSONSerializer

from coreset.queue.job_store import JobStore, new_job_id
from coreset.queue.task_ids import task_id
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset.settings import WorkerSettings
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset.storage.trials import load_failure
from coreset_workers.process.runtime import Runtime, install
from coreset_workers.tasks import task_failed


@pytest.fixture
def job(store: JobStore, queue: TaskQueue, storage: Storage, spec: JobSpec, redis: Redis) -> str:
    install(Runtime.build(WorkerSettings(storage=storage.root), redis))
    job_id = store.create(spec, new_job_id()).id
    for status in (JobStatus.PREPARING, JobStatus.SCORING, JobStatus.REDUCING):
        store.transition(job_id, status)
    queue.enqueue_trials(job_id, 2)
    return job_id


@pytest.mark.parametrize(("retries_left", "failed"), [(1, False), (0, True)])
def test_only_the_last_attempt_counts(
    job: str, redis: Redis, store: JobStore, storage: Storage, retries_left: int, failed: bool
) -> None:
    task = Task.fetch(task_id(job, "trial", 1), connection=redis, serializer=JSONSerializer)
    task.retries_left = retries_left
    task_failed(task, redis, MemoryError, MemoryError("a secret"), None)  # type: ignore[arg-type]
    ended = store.get(job)
    assert ended.status is JobStatus.REDUCING
    assert (ended.progress.stage == "training proxies, 1 of 2") is failed
    expected = "trial failed 3 times; the last time: MemoryError; the worker's log has the details"
    assert (load_failure(storage, job, 1) == expected) is failed
