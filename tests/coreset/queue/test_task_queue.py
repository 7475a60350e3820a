"""The queue's own work: the tree's shape, doing things twice, taking things off."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq.job import Job as Task
from rq.registry import DeferredJobRegistry
from rq.serializers import JSONSerializer

from coreset.errors import Unavailable
from coreset.queue import task_queue as queue_module
from coreset.queue.job_store import JobStore
from coreset.queue.merge_tree import MAX_CHILDREN, merge_levels
from coreset.queue.task_ids import task_id
from coreset.queue.task_queue import TaskQueue
from coreset.redis.connection import connect
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec


@pytest.fixture
def job(store: JobStore, spec: JobSpec) -> str:
    return store.create(spec, "job1").id


def ranges(count: int) -> list[range]:
    return [range(n, n + 1) for n in range(count)]


def dependencies(redis: Redis, rq_id: str) -> list[str]:
    return sorted(Task.fetch(rq_id, connection=redis, serializer=JSONSerializer).dependency_ids)


@given(tasks=st.integers(1, 20_000))
def test_the_tree_covers_each_child_once_and_is_never_wider_than_64(tasks: int) -> None:
    children = tasks
    for nodes in merge_levels(tasks):
        assert list(chain.from_iterable(nodes)) == list(range(children))
        assert max(len(node) for node in nodes) <= MAX_CHILDREN
        children = len(nodes)
    assert 1 <= children <= MAX_CHILDREN


def test_scoring_puts_scores_on_gpu_and_the_tree_behind_them(job: str, redis: Redis, queue: TaskQueue) -> None:
    queue.enqueue_scoring(job, ranges(65))
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 65}
    assert dependencies(redis, task_id(job, "merge", 0, 1)) == [task_id(job, "score", 64)]
    assert len(dependencies(redis, task_id(job, "merge", 0, 0))) == 64
    assert dependencies(redis, task_id(job, "finish")) == [task_id(job, "merge", 0, n) for n in range(2)]


def test_a_message_is_small_and_holds_ids_only(job: str, redis: Redis, queue: TaskQueue) -> None:
    queue.enqueue_scoring(job, ranges(2))
    task = Task.fetch(task_id(job, "score", 1), connection=redis, serializer=JSONSerializer)
    assert (task.func_name, task.args, task.kwargs) == ("coreset_workers.tasks.score", [job, 1], {})
    assert (task.retries_left, task.enqueue_at_front_on_retry, task.timeout) == (2, True, -1)


def test_enqueueing_twice_changes_nothing(job: str, redis: Redis, queue: TaskQueue) -> None:
    for _ in range(2):
        queue.enqueue_prepare(job)
        queue.enqueue_scoring(job, ranges(70))
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 71}
    assert len(DeferredJobRegistry("cpu", connection=redis)) == 3


@pytest.mark.parametrize("dies_in", ["_save", "_enqueue_tree", "_push"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_enqueue_that_dies_half_way_is_made_whole_by_the_next(
    job: str, redis: Redis, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, dies_in: str, after: int
) -> None:
    monkeypatch.setattr(queue_module, "BATCH", 30)
    dying = TaskQueue(redis)
    calls = 0
    whole = dying._task

    def task_or_death(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += active
        if calls > 31 * after:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    active = 0
    step = getattr(dying, dies_in)

    def dying_step(*arguments: object) -> None:
        nonlocal active
        active = 1
        monkeypatch.setattr(dying, "_task", task_or_death)
        step(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(dying, dies_in, dying_step)
    with pytest.raises(KeyboardInterrupt):
        dying.enqueue_scoring(job, ranges(70))
    queue.enqueue_scoring(job, ranges(70))
    pushed = [rq_id.decode() for rq_id in redis.lrange("rq:queue:gpu", 0, -1)]
    assert sorted(pushed) == sorted(task_id(job, "score", n) for n in range(70))
    assert len(dependencies(redis, task_id(job, "merge", 0, 0))) == 64
    assert len(DeferredJobRegistry("cpu", connection=redis)) == 3


def test_trials_wait_on_gpu_and_what_concludes_them_behind_all(job: str, redis: Redis, queue: TaskQueue) -> None:
    for _ in range(2):
        queue.enqueue_trials(job, 5)
    trials = [task_id(job, "trial", n) for n in range(5)]
    assert [rq_id.decode() for rq_id in redis.lrange("rq:queue:gpu", 0, -1)] == trials
    assert dependencies(redis, task_id(job, "conclude")) == trials
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 5}
    census = queue.census.by_state(job)
    assert (census["waiting"], census["deferred"]) == (trials, [task_id(job, "conclude")])


def test_trials_are_cancelled_with_what_comes_after_them(job: str, redis: Redis, queue: TaskQueue) -> None:
    queue.enqueue_scoring(job, ranges(2))
    queue.enqueue_trials(job, 5)
    assert queue.cancel_tasks(job) == 5 + 1 + 2 + 1 + 1
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 0}
    assert not redis.keys("rq:job:*")


def test_a_conclude_that_failed_for_good_and_a_trial_that_is_lost_are_seen(
    job: str, redis: Redis, queue: TaskQueue
) -> None:
    queue.enqueue_trials(job, 3)
    redis.lpop("rq:queue:gpu")
    assert queue.census.lost([job]) == [task_id(job, "trial", 0)]
    assert queue.census.failed([job]) == []
    redis.hset(f"rq:job:{task_id(job, 'conclude')}", "status", "failed")
    assert queue.census.failed([job]) == [job]


def test_cancel_takes_this_jobs_tasks_off_and_no_others(
    job: str, store: JobStore, spec: JobSpec, redis: Redis, queue: TaskQueue
) -> None:
    other = store.create(spec, "job2").id
    for job_id in (other, job):
        queue.enqueue_prepare(job_id)
        queue.enqueue_scoring(job_id, ranges(70))
    assert queue.cancel_tasks(job) == 1 + 70 + 2 + 1
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 71}
    assert not [key for key in redis.keys("rq:job:*") if b"job1" in key]
    assert queue.cancel_tasks(job) == 0


def test_a_job_with_nothing_running_is_cancelled_at_once(job: str, store: JobStore, queue: TaskQueue) -> None:
    queue.enqueue_prepare(job)
    assert not queue.finish_cancel(job), "nobody asked"
    store.request_cancel(job)
    assert queue.finish_cancel(job)
    assert store.status(job) is JobStatus.CANCELLED
    assert not queue.finish_cancel("nobody")


def test_no_redis_is_unavailable() -> None:
    queue = TaskQueue(connect("redis://127.0.0.1:1/0", patience=0))
    for call in (
        queue.census.waiting_counts,
        queue.workers.count,
        lambda: queue.enqueue_prepare("x"),
        lambda: queue.finish_cancel("x"),
    ):
        with pytest.raises(Unavailable):
            call()


def test_stretches_of_training_are_added_once_and_counted_among_the_jobs_tasks(
    job: str, redis: Redis, queue: TaskQueue
) -> None:
    for stretch in (0, 0, 1):
        queue.enqueue_training(job, stretch)
    task = Task.fetch(task_id(job, "train", 1), connection=redis, serializer=JSONSerializer)
    assert (task.func_name, task.args) == ("coreset_workers.tasks.train", [job, 1])
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 2}
    assert {task_id(job, "train", 0), task_id(job, "train", 1)} <= set(queue.census.by_state(job)["waiting"])
    redis.hset(Task.key_for(task_id(job, "train", 0)), "status", "failed")
    assert queue.census.failed([job]) == [job]


def test_a_cancel_removes_a_stretch_of_training(job: str, queue: TaskQueue) -> None:
    queue.enqueue_training(job, 0)
    assert queue.cancel_tasks(job) == 1
    assert queue.census.waiting_counts() == {"cpu": 0, "gpu": 0}


def test_stretches_of_training_take_turns_with_the_scores_of_other_jobs(
    store: JobStore, spec: JobSpec, queue: TaskQueue, redis: Redis
) -> None:
    for name in ("job1", "job2"):
        store.create(spec, name)
    queue.enqueue_scoring("job2", ranges(9))
    queue.enqueue_training("job1", 0)
    waiting = [rq_id.decode() for rq_id in redis.lrange("rq:queue:gpu", 0, -1)]
    assert waiting[0] == "job1-train-0"  # of the older job, with its turn
    queue.enqueue_prepare("job2")
    assert [rq_id.decode() for rq_id in redis.lrange("rq:queue:gpu", 0, 0)] == ["job2-prepare"]
