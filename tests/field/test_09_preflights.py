"""Point 9: checks that nobody waits for do not delay jobs, and those of one caller do not delay another's."""

import pytest
from redis import Redis

from coreset.errors import TooManyRequests
from coreset.queue.job_store import JobStore
from coreset.queue.preflight_queue import MAX_PER_CALLER, MAX_WAITING, POLLED_SECONDS
from coreset.queue.task_ids import GPU
from coreset.queue.task_queue import TaskQueue
from coreset.redis.keys import CHECKS
from coreset.spec.job import JobSpec
from tests.service.routes.test_preflight import TestWorker


@pytest.fixture(autouse=True)
def alive(redis: Redis) -> None:
    """A worker that is alive and takes nothing."""
    TestWorker([GPU], redis).register_birth()


def numbered(spec: JobSpec, number: int) -> JobSpec:
    return spec.model_copy(update={"seed": number})


def waiting(redis: Redis) -> list[str]:
    return [entry.decode() for entry in redis.lrange("rq:queue:gpu", 0, -1)]


def test_a_caller_has_a_few_checks_and_all_have_some_more(queue: TaskQueue, spec: JobSpec, redis: Redis) -> None:
    for number in range(MAX_PER_CALLER):
        assert queue.preflights.check(numbered(spec, number), "a") is None
    with pytest.raises(TooManyRequests, match="of this caller"):
        queue.preflights.check(numbered(spec, 99), "a")
    assert queue.preflights.check(numbered(spec, 0), "a") is None, "one that waits already is polled on"
    for number in range(MAX_PER_CALLER, MAX_WAITING):
        queue.preflights.check(numbered(spec, number), f"b{number}")
    with pytest.raises(TooManyRequests, match="in all"):
        queue.preflights.check(numbered(spec, 99), "c")
    assert len(waiting(redis)) == MAX_WAITING


def test_abandoned_checks_leave_the_queue(
    queue: TaskQueue, spec: JobSpec, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MAX_PER_CALLER):
        queue.preflights.check(numbered(spec, number), "a")
    for entry in redis.zrange(CHECKS, 0, -1):
        redis.zincrby(CHECKS, -POLLED_SECONDS - 1, entry)
    queue.preflights.check(numbered(spec, 7), "a")
    assert len(waiting(redis)) == 1
    redis.zincrby(CHECKS, -POLLED_SECONDS - 1, redis.zrange(CHECKS, 0, -1)[0])
    queue.preflights.drop_abandoned()
    assert (waiting(redis), redis.zcard(CHECKS), redis.keys("rq:job:check*")) == ([], 0, [])


def test_checks_and_jobs_take_turns(queue: TaskQueue, store: JobStore, spec: JobSpec, redis: Redis) -> None:
    for number in range(8):
        queue.preflights.check(numbered(spec, number), f"caller{number}")
    store.create(spec, "job1")
    queue.enqueue_prepare("job1")
    queue.enqueue_scoring("job1", [range(n, n + 1) for n in range(20)])
    order = waiting(redis)
    jobs = [position for position, task in enumerate(order) if task.startswith("job1-")]
    assert order[0].startswith("check-")
    assert jobs[0] == 1, "one check goes before the job's first task, not eight"
    assert sum(task.startswith("check-") for task in order[:12]) >= 2
