"""Workers as processes: kill -9, poison, stall, SIGTERM, and jobs that end their cancelling."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from coreset.queue.job_store import JobStore
from coreset.queue.task_ids import GPU
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec
from coreset_workers.process.lease import LeaseWorker

LEASE = 2.0
GUARD = 200.0
"""Seconds after which a wait is a hang."""
ROOT = Path(__file__).parents[3]
StartWorker = Callable[..., subprocess.Popen[bytes]]
Events = Callable[[str], list[str]]
Wait = Callable[[Callable[[], object], float], float]


@pytest.fixture
def job(store: JobStore, spec: JobSpec) -> str:
    return store.create(spec, "job1").id


@pytest.mark.slow
def test_a_whole_job_runs_each_task_once_and_finishes_last(
    job: str, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events
) -> None:
    tiny_queue.enqueue_prepare(job)
    tiny_queue.enqueue_scoring(job, [range(n, n + 1) for n in range(130)])
    assert start_worker("--burst").wait(timeout=100) == 0
    said = events("")
    assert said[0] == "prepare job1"
    assert said[-1] == "finish job1"
    assert len(said) == len(set(said)) == 1 + 2 * 130 + 3 + 1
    assert tiny_queue.census.waiting_counts() == {"cpu": 0, "gpu": 0}


@pytest.mark.slow
def test_a_killed_workers_task_runs_again_within_the_lease(
    job: str, redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    redis.hset("behaviour", "score 0", "slow 600")
    tiny_queue.enqueue_scoring(job, [range(1)])
    first = start_worker()
    wait(lambda: events("score "), 60)
    wait(lambda: tiny_queue.census.running(job), GUARD)
    start_worker()
    wait(lambda: tiny_queue.workers.count() == 2, 60)
    redis.hset("behaviour", "score 0", "")
    first.kill()
    seconds = wait(lambda: len(events("score ")) == 2, GUARD)
    print(f"ran again {seconds:.1f} s after kill -9, lease {LEASE} s")
    wait(lambda: events("finish"), GUARD)
    assert events("scored") == ["scored job1 0"]


@pytest.mark.slow
def test_a_long_task_keeps_its_lease(
    job: str, redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    redis.hset("behaviour", "score 0", f"slow {LEASE * 1.75}")
    tiny_queue.enqueue_scoring(job, [range(1)])
    start_worker()
    start_worker()
    wait(lambda: events("finish"), LEASE * 1.75 + 60)
    assert events("score ") == ["score job1 0"]


@pytest.mark.slow
def test_a_task_that_kills_its_worker_fails_after_three_runs(
    job: str, redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    redis.hset("behaviour", "score 0", "die")
    tiny_queue.enqueue_scoring(job, [range(1), range(1, 2)])
    for run in range(1, 4):
        start_worker("--queues", GPU)
        wait(lambda run=run: len(events("score job1 0")) == run, 3 * LEASE + 60)
    start_worker()
    wait(lambda: events("finish"), 3 * LEASE + 60)
    assert events("failed") == [
        "failed job1-score-0 AbandonedJobError again",
        "failed job1-score-0 AbandonedJobError again",
        "failed job1-score-0 AbandonedJobError for good",
    ]
    assert events("scored") == ["scored job1 1"]


@pytest.mark.slow
def test_a_task_that_raises_is_tried_three_times_and_its_dependents_run(
    job: str, redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events
) -> None:
    redis.hset("behaviour", "score 0", "raise")
    tiny_queue.enqueue_scoring(job, [range(1)])
    assert start_worker("--burst").wait(timeout=100) == 0
    assert [event.rsplit(" ", 2)[-1] for event in events("failed")] == ["again", "again", "good"]
    assert events("finish") == ["finish job1"]


@pytest.mark.slow
def test_a_stalled_process_ends_itself_and_the_task_runs_again(
    job: str, redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    redis.hset("behaviour", "score 0", "hang once")
    tiny_queue.enqueue_scoring(job, [range(1)])
    hung = start_worker(stall_minutes=1.5 / 60)
    assert hung.wait(timeout=80) == 1
    start_worker()
    wait(lambda: events("finish"), LEASE + 60)
    assert len(events("score ")) == 2


@pytest.mark.slow
def test_a_worker_makes_itself_known_again_to_an_emptied_redis(
    redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, wait: Wait
) -> None:
    start_worker()
    wait(lambda: tiny_queue.workers.states(), 60)
    before = tiny_queue.workers.states()
    redis.flushall()
    wait(lambda: tiny_queue.workers.states() == before, GUARD)
    assert tiny_queue.workers.count() == 1


@pytest.mark.slow
def test_sigterm_lets_the_task_end(
    job: str, redis: Redis, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    redis.hset("behaviour", "score 0", "slow 2")
    tiny_queue.enqueue_scoring(job, [range(1), range(1, 2)])
    worker = start_worker()
    wait(lambda: events("score "), 60)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=GUARD) == 0
    assert events("scored") == ["scored job1 0"]
    assert tiny_queue.census.waiting_counts()["gpu"] == 1


TOLD_BETWEEN_TASKS = """
import os, signal, sys
from redis import Redis
from coreset_workers.process.lease import LeaseWorker
from coreset_workers.process.own_tasks import NAMES, OwnTask
OwnTask.allowed |= {f"tiny_tasks.{name}" for name in NAMES}
LeaseWorker(["gpu"], Redis.from_url(sys.argv[1]), task_ended=lambda task: os.kill(os.getpid(), signal.SIGTERM)).work()
"""


def test_sigterm_is_heard_between_two_tasks(
    job: str, redis_url: str, tiny_queue: TaskQueue, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}")
    tiny_queue.enqueue_scoring(job, [range(1), range(1, 2)])
    worker = subprocess.run([sys.executable, "-c", TOLD_BETWEEN_TASKS, redis_url], timeout=60)
    assert worker.returncode == 0
    assert events("scored") == ["scored job1 0"]
    assert tiny_queue.census.waiting_counts()["gpu"] == 1


@pytest.mark.slow
def test_cancelling_ends_with_the_last_running_task(
    job: str,
    redis: Redis,
    store: JobStore,
    tiny_queue: TaskQueue,
    start_worker: StartWorker,
    events: Events,
    wait: Wait,
) -> None:
    redis.hset("behaviour", "score 0", "slow 2")
    tiny_queue.enqueue_scoring(job, [range(n, n + 1) for n in range(100)])
    start_worker()
    wait(lambda: tiny_queue.census.running(job), 60)
    store.request_cancel(job)
    assert not tiny_queue.finish_cancel(job), "a task still runs"
    assert tiny_queue.census.waiting_counts() == {"cpu": 0, "gpu": 0}
    wait(lambda: store.status(job) is JobStatus.CANCELLED, GUARD)
    assert events("finish") == []
    assert len(events("score ")) == 1


@pytest.mark.slow
def test_cancelling_after_a_kill_ends_with_the_lease(
    job: str, redis: Redis, store: JobStore, tiny_queue: TaskQueue, start_worker: StartWorker, wait: Wait
) -> None:
    redis.hset("behaviour", "score 0", "slow 600")
    tiny_queue.enqueue_scoring(job, [range(1)])
    worker = start_worker()
    wait(lambda: tiny_queue.census.running(job), 60)
    store.request_cancel(job)
    worker.kill()
    wait(lambda: tiny_queue.finish_cancel(job), GUARD)
    assert store.status(job) is JobStatus.CANCELLED


def test_who_dies_while_looking_for_lost_tasks_does_not_keep_others_from_it_for_long(redis: Redis) -> None:
    queue = LeaseWorker([GPU], redis).queues[0]
    assert queue.acquire_maintenance_lock()
    assert not queue.acquire_maintenance_lock()
    assert 0 < redis.ttl(queue.registry_cleaning_key) <= 10
