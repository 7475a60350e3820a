"""The stream of a job's milestones: written with the change, sent once and in order, resumable from any id."""

import pytest
from redis import Redis

from coreset.errors import Conflict
from coreset.queue.event_entries import MAX_EVENTS
from coreset.queue.job_store import JobStore
from coreset.schemas.events import Ended, ShardFailed, StatusChanged, Warned
from coreset.schemas.job import JobStatus, Reason
from coreset.spec.job import JobSpec

REASON = Reason(code="shard-unreadable", message="a.tar: not a tar")


def test_every_change_is_told_once_and_in_order(store: JobStore, spec: JobSpec) -> None:
    store.create(spec, "j1", idempotency_key="key")
    store.create(spec, "j2", idempotency_key="key")
    for _ in range(2):
        store.transition("j1", JobStatus.PREPARING)
        store.warn("j1", "no sizes.json")
        store.shards.fail("j1", 3, "a.tar", "not a tar")
    store.set_stage("j1", "planning", 0.5)
    before = store.events("j1")
    assert [type(event) for _, event in before.milestones] == [StatusChanged, StatusChanged, Warned, ShardFailed]
    assert not before.complete
    failed = before.milestones[-1].event
    assert isinstance(failed, ShardFailed)
    assert (failed.shard, failed.uri, failed.message) == (3, "a.tar", "not a tar")

    store.transition("j1", JobStatus.FAILED, REASON)
    after = store.events("j1", before.milestones[-1].id)
    assert after.complete
    assert [event for _, event in after.milestones] == [
        Ended(at=after.milestones[0].event.at, status=JobStatus.FAILED, reason=REASON)
    ]
    ids = [milestone.id for milestone in store.events("j1").milestones]
    assert len(set(ids)) == 5
    assert store.events("j1", ids[-1]).milestones == []


def test_a_change_that_is_refused_is_not_told(store: JobStore, spec: JobSpec) -> None:
    store.create(spec, "j1")
    store.transition("j1", JobStatus.FAILED, REASON)
    reported = store.events("j1").milestones
    store.transition("j1", JobStatus.FAILED, REASON)
    for change in (lambda: store.transition("j1", JobStatus.SUCCEEDED), lambda: store.request_cancel("j1")):
        with pytest.raises(Conflict):
            change()
    assert store.events("j1").milestones == reported


def test_the_stream_is_capped(store: JobStore, spec: JobSpec, redis: Redis) -> None:
    store.create(spec, "j1")
    for shard in range(MAX_EVENTS + 300):
        store.shards.fail("j1", shard, "a.tar", "no")
    kept = redis.xlen("coreset:job:j1:events")
    assert MAX_EVENTS <= kept < MAX_EVENTS + 150
    store.transition("j1", JobStatus.FAILED, REASON)
    first = store.events("j1")
    assert not first.complete
    rest = store.events("j1", first.milestones[-1].id)
    assert rest.complete
    assert isinstance(rest.milestones[-1].event, Ended)
