"""Jobs that share real workers: who is served when."""

import subprocess
from collections.abc import Callable

import pytest

from coreset.queue.fair_order import TASKS_PER_TURN
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.spec.job import JobSpec, Priority

LARGE, SMALL, WORKERS = 2_000, 10, 2
GUARD = 200.0
"""Seconds after which a wait is a hang. What is asserted are orders and counts."""

StartWorker = Callable[..., subprocess.Popen[bytes]]
Events = Callable[[str], list[str]]
Wait = Callable[[Callable[[], object], float], float]


def post(store: JobStore, queue: TaskQueue, spec: JobSpec, job: str, tasks: int, priority: Priority = "normal") -> None:
    store.create(spec.model_copy(update={"priority": priority}), job)
    queue.enqueue_scoring(job, [range(n, n + 1) for n in range(tasks)])


@pytest.mark.slow
def test_ten_shards_posted_behind_thousands_end_while_those_run(
    spec: JobSpec, store: JobStore, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    post(store, tiny_queue, spec, "large", LARGE)
    for _ in range(WORKERS):
        start_worker()
    wait(lambda: len(events("scored large")) > 20, GUARD)
    before = len(events("score large"))
    post(store, tiny_queue, spec, "small", SMALL)
    seen = len(events("score large"))
    wait(lambda: events("finish small"), GUARD)
    said = events("")
    between = said[said.index("score small 0") : said.index("finish small")]
    meanwhile = sum(event.startswith("score large") for event in between)
    print(f"{seen - before} of large while small was posted, {meanwhile} while it ran")
    assert 0 < meanwhile <= SMALL + 2 * TASKS_PER_TURN * WORKERS
    assert tiny_queue.census.waiting_counts()["gpu"] > LARGE / 2


@pytest.mark.slow
def test_two_large_jobs_get_the_same_share(
    spec: JobSpec, store: JobStore, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events, wait: Wait
) -> None:
    for job in ("first", "second"):
        post(store, tiny_queue, spec, job, 200)
    for _ in range(WORKERS):
        start_worker()
    wait(lambda: len(events("score ")) >= 150, GUARD)
    served = [event.split()[1] for event in events("score ")][:150]
    shares = [served.count(job) for job in ("first", "second")]
    assert abs(shares[0] - shares[1]) <= TASKS_PER_TURN * WORKERS + WORKERS


@pytest.mark.slow
def test_high_runs_before_normal_before_low_whatever_came_first(
    spec: JobSpec, store: JobStore, tiny_queue: TaskQueue, start_worker: StartWorker, events: Events
) -> None:
    for priority in ("low", "normal", "high"):
        post(store, tiny_queue, spec, priority, 30, priority)
    assert start_worker("--burst").wait(timeout=GUARD) == 0
    assert [event.split()[1] for event in events("score ")] == ["high"] * 30 + ["normal"] * 30 + ["low"] * 30
