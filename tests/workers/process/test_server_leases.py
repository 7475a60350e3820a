"""Leases do not depend on the clocks of workers: one that is an hour ahead or behind neither takes nor loses tasks."""

import time
from collections.abc import Callable, Iterator

import pytest
import rq.executions
import rq.registry
import rq.utils
from redis import Redis
from rq import Queue
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from coreset.queue.task_ids import GPU
from coreset.queue.task_queue import TaskQueue
from coreset_workers.process.own_tasks import OwnTask
from tests.service.routes.test_preflight import TestWorker

HOUR = 3600
Jump = Callable[[float], None]


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jump]:
    """Set this process's clock, as RQ reads it, ahead by some seconds."""

    def by(seconds: float) -> None:
        for module in (rq.registry, rq.executions, rq.utils):
            monkeypatch.setattr(module, "current_timestamp", lambda: int(time.time() + seconds))

    yield by
    monkeypatch.undo()


@pytest.fixture
def task(redis: Redis) -> OwnTask:
    """A task that a worker is to take."""
    queue = Queue(GPU, connection=redis, serializer=JSONSerializer, job_class=OwnTask)
    return queue.enqueue("coreset_workers.tasks.prepare", "j1", job_id="j1-prepare", retry=None)


def take(worker: TestWorker, task: OwnTask) -> None:
    """Begin a task as a worker does, with a lease."""
    worker.prepare_execution(task)
    task.set_status(JobStatus.STARTED)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_the_task_of_a_living_worker_stays_its_own(
    redis: Redis, queue: TaskQueue, task: OwnTask, jump: Jump, seconds: float
) -> None:
    first, second = TestWorker([GPU], redis, lease=60), TestWorker([GPU], redis, lease=60)
    jump(seconds)
    take(first, task)
    assert queue.census.running("j1") == ["j1-prepare"]
    jump(-seconds)
    second.clean_registries()
    assert queue.census.running("j1") == ["j1-prepare"]
    assert task.get_status(refresh=True) is JobStatus.STARTED


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_the_task_of_a_dead_worker_is_found(
    redis: Redis, queue: TaskQueue, task: OwnTask, jump: Jump, seconds: float
) -> None:
    first, second = TestWorker([GPU], redis, lease=1), TestWorker([GPU], redis, lease=1)
    jump(seconds)
    take(first, task)
    deadline = time.monotonic() + 30
    while queue.census.running("j1"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    jump(0)
    time.sleep(1.1)  # RQ compares whole seconds
    second.clean_registries()
    assert task.get_status(refresh=True) is JobStatus.FAILED, "it has no retries"


def test_maintenance_does_not_wait_for_a_clock_that_was_set_back(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = TestWorker([GPU], redis, lease=3)
    assert worker.should_run_maintenance_tasks
    worker.clean_registries()
    assert not worker.should_run_maintenance_tasks
    later = time.monotonic() + 10
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert worker.should_run_maintenance_tasks


def test_a_lease_that_is_renewed_after_its_record_expired_can_be_read(redis: Redis, task: OwnTask) -> None:
    """As of a process that was frozen for longer than its lease: RQ writes back the heartbeat alone."""
    worker = TestWorker([GPU], redis, lease=60)
    worker.register_birth()
    execution = worker.prepare_execution(task)
    redis.delete(execution.key)
    worker._renew(task, execution)
    worker.register_death()
    (found,) = task.get_executions()
    assert found.created_at == execution.created_at
    assert 0 < redis.ttl(execution.key) <= 120
