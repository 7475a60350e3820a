"""The order in which jobs take turns."""

from itertools import chain
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from coreset.queue.fair_order import TURN, Standing, deal, withdraw
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue, task_id
from coreset.spec.job import PRIORITIES, JobSpec, Priority

LIST = "waiting"


def put(redis: Redis, *ids: str) -> None:
    redis.delete(LIST)
    if ids:
        redis.rpush(LIST, *ids)


def waiting(redis: Redis) -> list[str]:
    return [entry.decode() for entry in redis.lrange(LIST, 0, -1)]


def scores(job: str, count: int) -> list[str]:
    return [task_id(job, "score", n) for n in range(count)]


def job_of(rq_id: str) -> str:
    return rq_id.split("-", 1)[0]


def test_a_small_job_behind_a_large_one_is_dealt_in(redis: Redis) -> None:
    put(redis, *scores("large", 10_000), *scores("small", 10))
    deal(redis, LIST, {}, workers=1)
    order = [job_of(rq_id) for rq_id in waiting(redis)]
    assert len(order) == 10_010
    last = max(place for place, job in enumerate(order) if job == "small")
    assert last < 2 * 10 + TURN


def test_who_runs_least_is_dealt_to_first(redis: Redis) -> None:
    put(redis, *scores("a", 9), *scores("b", 9), *scores("c", 9))
    deal(redis, LIST, {"a": Standing(running=2), "b": Standing(running=1), "c": Standing(running=1)}, workers=2)
    assert [job_of(rq_id) for rq_id in waiting(redis)] == [*"bbbbbbbb", *"cccccccc", *"aaaaaaaa", *"bca"]


def test_trials_take_turns_with_another_jobs_score_tasks(redis: Redis) -> None:
    trials = [task_id("a", "trial", n) for n in range(9)]
    put(redis, *trials, *scores("b", 9))
    deal(redis, LIST, {}, workers=1)
    assert [job_of(rq_id) for rq_id in waiting(redis)] == [*"aaaabbbbaaaabbbbab"]
    assert [rq_id for rq_id in waiting(redis) if rq_id in trials] == trials


def test_checks_come_before_all_and_prepares_before_the_scores_of_their_priority(redis: Redis) -> None:
    put(redis, *scores("n", 2), "n2-prepare", *scores("h", 2), "check-0f", "l-prepare", "h2-prepare")
    standings = {"h": Standing("high"), "h2": Standing("high"), "l": Standing("low")}
    deal(redis, LIST, standings, workers=1)
    expected = ["check-0f", "h2-prepare", *scores("h", 2), "n2-prepare", *scores("n", 2), "l-prepare"]
    assert waiting(redis) == expected


jobs = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(get_args(Priority)), st.integers(0, 3)), min_size=1, max_size=6
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(jobs=jobs, workers=st.integers(0, 3), data=st.data())
def test_any_order_is_dealt_fairly_and_whole(redis: Redis, jobs: list, workers: int, data: st.DataObject) -> None:
    ids = {f"j{n}": scores(f"j{n}", count) for n, (count, _, _) in enumerate(jobs)}
    standings = {f"j{n}": Standing(priority, running) for n, (_, priority, running) in enumerate(jobs)}
    put(redis, *data.draw(st.permutations(list(chain.from_iterable(ids.values())))))
    before = waiting(redis)
    deal(redis, LIST, standings, workers)
    after = waiting(redis)
    assert sorted(after) == sorted(before)
    ranks = [PRIORITIES.index(standings[job_of(rq_id)].priority) for rq_id in after]
    assert ranks == sorted(ranks)
    for job in ids:
        assert [i for i in after if job_of(i) == job] == [i for i in before if job_of(i) == job]
    _assert_fair(after, ids, standings, TURN * max(1, workers))


def _assert_fair(after: list[str], ids: dict, standings: dict[str, Standing], turn: int) -> None:
    """Of two jobs of one priority that both still wait, neither is ever more than a turn ahead."""
    served = dict.fromkeys(ids, 0)
    for rq_id in after:
        served[job_of(rq_id)] += 1
        hungry = [job for job in ids if served[job] < len(ids[job])]
        for priority in PRIORITIES:
            level = [served[job] for job in hungry if standings[job].priority == priority]
            assert not level or max(level) - min(level) <= turn


def test_withdrawing_takes_one_job_and_no_others(redis: Redis) -> None:
    put(redis, "check-0f", *scores("job1", 3), *scores("job10", 2500), "job1-prepare")
    withdraw(redis, LIST, "job1")
    assert waiting(redis) == ["check-0f", *scores("job10", 2500)]
    withdraw(redis, LIST, "job10")
    withdraw(redis, LIST, "nobody")
    assert waiting(redis) == ["check-0f"]


@pytest.mark.parametrize(("second", "first_served"), [("high", "job2"), ("normal", "job1"), ("low", "job1")])
def test_priorities_are_the_specs(
    redis: Redis, store: JobStore, queue: TaskQueue, spec: JobSpec, second: Priority, first_served: str
) -> None:
    store.create(spec, "job1")
    store.create(spec.model_copy(update={"priority": second}), "job2")
    for job in ("job1", "job2"):
        queue.enqueue_scoring(job, [range(n, n + 1) for n in range(10)])
    queue.enqueue_prepare("job2")
    order = [entry.decode() for entry in redis.lrange("rq:queue:gpu", 0, -1)]
    assert [i for i in order if "score" in i][:TURN] == scores(first_served, TURN)
    assert order.index("job2-prepare") == (20 - 10 if second == "low" else 0)
