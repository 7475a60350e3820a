"""Jobs that nobody would move on any more."""

import time

import pytest
from redis import Redis

from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec
from coreset_service.maintenance.reconciler import Reconciler


@pytest.fixture
def reconciler(store: JobStore, queue: TaskQueue) -> Reconciler:
    return Reconciler(store, queue, seconds=0.05)


@pytest.fixture
def job(store: JobStore, spec: JobSpec) -> str:
    return store.create(spec, "job1").id


def test_a_job_without_its_prepare_gets_it_once(
    job: str, store: JobStore, queue: TaskQueue, reconciler: Reconciler
) -> None:
    for _ in range(3):
        reconciler.reconcile()
    assert queue.depth()["gpu"] == 1
    assert store.status(job) is JobStatus.QUEUED


def test_a_task_lost_between_queue_and_worker_comes_back_at_the_second_look(
    job: str, store: JobStore, queue: TaskQueue, reconciler: Reconciler, redis: Redis
) -> None:
    store.transition(job, JobStatus.PREPARING)
    queue.enqueue_scoring(job, [range(n, n + 1) for n in range(3)])
    assert redis.lpop("rq:queue:gpu") == b"job1-score-0"
    assert reconciler.reconcile() == []
    assert reconciler.reconcile() == ["job1-score-0"]
    assert redis.lrange("rq:queue:gpu", 0, -1) == [f"job1-score-{n}".encode() for n in range(3)]
    assert reconciler.reconcile() == []


def test_a_task_that_a_worker_holds_is_not_lost(
    job: str, store: JobStore, queue: TaskQueue, reconciler: Reconciler, redis: Redis
) -> None:
    store.transition(job, JobStatus.PREPARING)
    queue.enqueue_scoring(job, [range(1)])
    redis.lpop("rq:queue:gpu")
    redis.zadd("rq:wip:gpu", {"job1-score-0:execution": time.time() + 60})
    assert [reconciler.reconcile() for _ in range(3)] == [[], [], []]


def test_a_cancelled_job_that_nobody_looks_at_ends(job: str, store: JobStore, reconciler: Reconciler) -> None:
    store.request_cancel(job)
    reconciler.start()
    deadline = time.monotonic() + 5
    while store.status(job) is not JobStatus.CANCELLED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    reconciler.stop()
    assert store.active() == {}


def test_a_job_whose_prepare_failed_without_a_word_has_failed(
    job: str, store: JobStore, queue: TaskQueue, reconciler: Reconciler, redis: Redis
) -> None:
    queue.enqueue_prepare(job)
    reconciler.reconcile()
    assert store.status(job) is JobStatus.QUEUED
    redis.hset("rq:job:job1-prepare", "status", "failed")
    reconciler.reconcile()
    ended = store.get(job)
    assert ended.status is JobStatus.FAILED
    assert ended.reason is not None
    assert ended.reason.code == "task-failed"


def test_only_one_takes_a_turn(store: JobStore) -> None:
    assert store.take_turn("x", 60)
    assert not store.take_turn("x", 60)
    assert store.take_turn("y", 60)
