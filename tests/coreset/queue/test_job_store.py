"""The store against a real Redis: legal transitions only, exact counts, pages, idempotency."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from coreset.errors import Conflict, InvalidInput, NotFound, Unavailable
from coreset.queue.job_store import JobStore, fingerprint, new_job_id
from coreset.redis.connection import connect
from coreset.schemas.job import TERMINAL, TRANSITIONS, JobStatus, Reason
from coreset.schemas.manifest import File, ShardSummary
from coreset.spec.evaluation import EvaluateSpec
from coreset.spec.job import JobSpec, ReferenceSpec
from coreset.spec.selection import SelectSpec

SHARED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def summary(shard: int, scored: int = 10, **bad: int) -> ShardSummary:
    part = File(uri=f"parts/{shard}", rows=scored, size=1, sha256="0" * 64)
    read = scored + sum(bad.values())
    return ShardSummary(
        shard=shard, uri=f"{shard}.tar", part=part, read=read, scored=scored, bad=bad, seconds=1.0, device="cpu"
    )


def scoring(store: JobStore, spec: JobSpec, shards: int = 4) -> str:
    job_id = store.create(spec, new_job_id()).id
    store.transition(job_id, JobStatus.PREPARING)
    store.set_plan(job_id, "p" * 32, shards)
    store.transition(job_id, JobStatus.SCORING)
    return job_id


def test_proxies_are_most_of_the_progress_of_a_job_that_trains_them(store: JobStore, spec: JobSpec) -> None:
    evaluate = EvaluateSpec.model_validate({"test": {"shards": "t.tar"}})
    job = scoring(store, spec.model_copy(update={"evaluate": evaluate}), shards=1)
    store.shards.finish(job, summary(0))
    scored = store.get(job).progress.fraction
    store.transition(job, JobStatus.REDUCING)
    store.set_stage(job, "writing the report", 0.04)
    store.task_counts.set_trials(job, 3)
    assert store.task_counts.trials(job) == 3
    fractions = [scored, store.get(job).progress.fraction]
    for trial, fraction in ((0, 0.0), (1, 0.5), (0, 0.5), (0, 1.0), (1, 1.0), (2, 0.9)):
        store.task_counts.advance_trial(job, trial, fraction, 3)
        fractions.append(store.get(job).progress.fraction)
    assert fractions == sorted(fractions)
    assert scored == pytest.approx(0.3)
    assert store.get(job).progress.stage == "training proxies, 2 of 3"
    assert 0.9 < fractions[-1] < 1
    with pytest.raises(NotFound):
        store.task_counts.advance_trial("nobody", 0, 0.5, 1)


def test_a_new_job_is_queued_and_holds_its_spec(store: JobStore, spec: JobSpec) -> None:
    job = store.create(spec, "j1")
    assert (job.id, job.status, job.spec) == ("j1", JobStatus.QUEUED, spec)
    assert store.get("j1") == job
    assert job.created_at.timestamp() == pytest.approx(time.time(), abs=5)


def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    for call in (store.get, store.version, store.status):
        with pytest.raises(NotFound):
            call("nobody")
    with pytest.raises(NotFound):
        store.transition("nobody", JobStatus.PREPARING)
    with pytest.raises(NotFound):
        store.shards.finish("nobody", summary(0))
    assert store.cancel_requested("nobody"), "work on a job that is gone should stop"


def test_the_same_id_twice_is_a_conflict(store: JobStore, spec: JobSpec) -> None:
    store.create(spec, "j1")
    with pytest.raises(Conflict):
        store.create(spec, "j1")


def test_an_idempotency_key_gives_the_same_job_for_the_same_spec_only(store: JobStore, spec: JobSpec) -> None:
    first = store.create(spec, "j1", idempotency_key="key")
    assert store.create(spec, "j2", idempotency_key="key").id == first.id
    turned = SelectSpec(fraction=0.3, by=dict(reversed(spec.select.by.items())), recipe=spec.select.recipe)
    assert store.create(spec.model_copy(update={"select": turned}), "j2", idempotency_key="key").id == first.id
    with pytest.raises(InvalidInput, match="new key"):
        store.create(spec.model_copy(update={"seed": 7}), "j3", idempotency_key="key")
    assert [job.id for job in store.listing.page().jobs] == ["j1"]


def test_a_new_field_with_a_default_changes_no_fingerprint(spec: JobSpec) -> None:
    """So an Idempotency-Key outlives an upgrade, and so does a preflight that waits."""

    class NewerReference(ReferenceSpec):
        partners: int = 3

    class NewerSpec(JobSpec):
        reference: NewerReference = NewerReference()
        brand_new: tuple[str, ...] = ("a",)

    given = json.loads(spec.model_dump_json(exclude_unset=True))
    newer = NewerSpec.model_validate(given)
    assert fingerprint(newer) == fingerprint(spec)
    assert fingerprint(NewerSpec.model_validate({**given, "brand_new": ["b"]})) != fingerprint(spec)
    assert fingerprint(NewerSpec.model_validate({**given, "reference": {"partners": 4}})) != fingerprint(spec)
    assert fingerprint(JobSpec.model_validate(spec.model_dump())) == fingerprint(spec), "defaults that are spelled out"


@SHARED
@given(steps=st.lists(st.sampled_from(list(TRANSITIONS)), max_size=8))
def test_only_legal_transitions_happen(store: JobStore, spec: JobSpec, steps: list[JobStatus]) -> None:
    job_id, expected = store.create(spec, new_job_id()).id, JobStatus.QUEUED
    for to in steps:
        version = store.version(job_id)
        if to is expected:
            assert store.transition(job_id, to).status is expected
            assert store.version(job_id) == version, "being there already changes nothing"
        elif to in TRANSITIONS[expected]:
            assert store.transition(job_id, to).status is to
            assert store.version(job_id) > version
            expected = to
        else:
            with pytest.raises(Conflict):
                store.transition(job_id, to)
        assert store.get(job_id).status is expected
    assert (store.get(job_id).ended_at is not None) == (expected in TERMINAL)


@SHARED
@given(
    events=st.lists(st.tuples(st.sampled_from(["start", "advance", "done", "failed"]), st.integers(0, 3)), max_size=30)
)
def test_every_shard_counts_once_however_often_its_task_runs(
    store: JobStore, spec: JobSpec, events: list[tuple[str, int]]
) -> None:
    job_id = scoring(store, spec)
    done: set[int] = set()
    failed: set[int] = set()
    for event, shard in events:
        if event == "start":
            store.shards.start(job_id, shard, "cpu")
        elif event == "advance":
            store.shards.advance(job_id, shard, 0.5)
        elif event == "done":
            assert store.shards.finish(job_id, summary(shard, 10, bad_image=2)) == (shard not in done)
            done.add(shard)
        else:
            assert store.shards.fail(job_id, shard, "uri", "no") == (shard not in done | failed)
            failed |= {shard} - done
        failed -= done
    progress = store.get(job_id).progress
    assert (progress.shards.done, progress.shards.failed) == (len(done), len(failed))
    assert (progress.samples.scored, progress.samples.read) == (10 * len(done), 12 * len(done))
    assert progress.samples.bad == ({"bad_image": 2 * len(done)} if done else {})
    assert {failure.shard for failure in store.get(job_id).failed_shards} == failed
    assert 0 <= progress.fraction <= 1


def test_a_running_shard_moves_the_fraction_and_ends_with_its_shard(store: JobStore, spec: JobSpec) -> None:
    job_id = scoring(store, spec, shards=2)
    fractions = [store.get(job_id).progress.fraction]
    store.shards.start(job_id, 0, "cuda:0")
    store.shards.advance(job_id, 0, 0.5)
    progress = store.get(job_id).progress
    fractions.append(progress.fraction)
    assert (progress.shards.running, progress.devices) == (1, ["cuda:0"])
    store.shards.finish(job_id, summary(0))
    store.shards.advance(job_id, 0, 0.7)  # a late word of a second run
    progress = store.get(job_id).progress
    fractions.append(progress.fraction)
    assert progress.shards.running == 0
    assert fractions == sorted(set(fractions))
    assert progress.samples_per_second is not None
    assert progress.eta_seconds is not None


def test_resumed_shards_say_nothing_about_the_speed(store: JobStore, spec: JobSpec) -> None:
    job_id = scoring(store, spec)
    store.shards.finish(job_id, summary(0), resumed=True)
    progress = store.get(job_id).progress
    assert progress.samples.scored == 10
    assert progress.samples_per_second is None
    assert progress.eta_seconds is None


def test_the_whole_way_has_a_growing_fraction_and_words(store: JobStore, spec: JobSpec) -> None:
    job_id = store.create(spec, new_job_id()).id
    seen = [store.get(job_id).progress.fraction]
    store.transition(job_id, JobStatus.PREPARING)
    store.set_stage(job_id, "reading checkpoint 1 of 3", 0.4)
    assert store.get(job_id).progress.stage == "reading checkpoint 1 of 3"
    seen.append(store.get(job_id).progress.fraction)
    store.set_plan(job_id, "p", 1)
    store.transition(job_id, JobStatus.SCORING)
    seen.append(store.get(job_id).progress.fraction)
    store.shards.finish(job_id, summary(0))
    seen.append(store.get(job_id).progress.fraction)
    store.transition(job_id, JobStatus.REDUCING)
    store.set_stage(job_id, "writing the report", 0.5)
    seen.append(store.get(job_id).progress.fraction)
    seen.append(store.transition(job_id, JobStatus.SUCCEEDED).progress.fraction)
    assert seen == sorted(set(seen))
    assert seen[-1] == 1.0


def test_cancelling(store: JobStore, spec: JobSpec) -> None:
    job_id = scoring(store, spec)
    assert not store.cancel_requested(job_id)
    assert store.request_cancel(job_id).status is JobStatus.CANCELLING
    assert store.request_cancel(job_id).status is JobStatus.CANCELLING
    assert store.cancel_requested(job_id)
    store.transition(job_id, JobStatus.CANCELLED)
    with pytest.raises(Conflict):
        store.request_cancel(job_id)


def test_reason_and_warnings_are_kept_once(store: JobStore, spec: JobSpec) -> None:
    job_id = store.create(spec, new_job_id()).id
    for text in ("no sizes.json", "no sizes.json", "no stats"):
        store.warn(job_id, text)
    job = store.transition(job_id, JobStatus.FAILED, Reason(code="shard-unreadable", message="a.tar: not a tar"))
    assert job.warnings == ["no sizes.json", "no stats"]
    assert job.reason == Reason(code="shard-unreadable", message="a.tar: not a tar")


def test_pages_are_newest_first_and_whole(store: JobStore, spec: JobSpec) -> None:
    ids = [store.create(spec, new_job_id()).id for _ in range(7)]
    store.transition(ids[2], JobStatus.PREPARING)
    seen: list[str] = []
    token = None
    while True:
        page = store.listing.page(size=3, token=token)
        seen += [job.id for job in page.jobs]
        store.create(spec, new_job_id())  # a job that comes meanwhile shifts nothing
        if (token := page.next_page_token) is None:
            break
    assert seen == ids[::-1]
    assert [job.id for job in store.listing.page(status=JobStatus.PREPARING).jobs] == [ids[2]]


def test_a_token_is_bound_to_its_filter(store: JobStore, spec: JobSpec) -> None:
    for _ in range(3):
        store.create(spec, new_job_id())
    token = store.listing.page(size=1).next_page_token
    with pytest.raises(InvalidInput, match="other filters"):
        store.listing.page(token=token, status=JobStatus.QUEUED)
    for garbage in ("x", "e30", "!!!!"):
        with pytest.raises(InvalidInput, match="page_token"):
            store.listing.page(token=garbage)


def test_only_an_ended_job_is_deleted_and_its_files_are_still_known(
    store: JobStore, spec: JobSpec, redis: Redis
) -> None:
    job_id = scoring(store, spec)
    store.shards.start(job_id, 0, "cpu")
    store.shards.fail(job_id, 1, "uri", "no")
    store.warn(job_id, "text")
    with pytest.raises(Conflict, match="cancel it"):
        store.delete(job_id)
    store.transition(job_id, JobStatus.FAILED)
    store.delete(job_id)
    with pytest.raises(NotFound):
        store.delete(job_id)
    assert set(redis.keys("coreset:*")) == {b"coreset:removals", b"coreset:totals"}
    assert store.removals.pending() == [job_id]
    store.removals.complete(job_id)
    assert redis.keys("coreset:*") == [b"coreset:totals"]


def test_the_key_of_a_deleted_job_makes_no_second_one(store: JobStore, spec: JobSpec) -> None:
    job_id = store.create(spec, "j1", idempotency_key="key").id
    store.transition(job_id, JobStatus.FAILED)
    store.delete(job_id)
    with pytest.raises(Conflict, match="deleted"):
        store.create(spec, "j2", idempotency_key="key")
    assert store.listing.page().jobs == []


def test_a_job_expires_after_its_end_as_its_spec_says(store: JobStore, spec: JobSpec, redis: Redis) -> None:
    kept = store.create(spec, "kept").id
    brief = store.create(spec.model_copy(update={"ttl_seconds_after_finished": 60}), "brief").id
    assert store.get(brief).expires_at is None
    for job_id in (kept, brief):
        store.transition(job_id, JobStatus.FAILED)
    job = store.get(brief)
    assert job.ended_at is not None
    assert job.expires_at is not None
    assert (job.expires_at - job.ended_at).total_seconds() == pytest.approx(60)
    assert store.get(kept).expires_at is None
    assert store.removals.expired() == []
    redis.zincrby("coreset:expiries", -61, brief)
    assert store.removals.expired() == [brief]
    store.delete(brief)
    assert store.removals.expired() == []


def test_no_redis_is_unavailable(spec: JobSpec) -> None:
    store = JobStore(connect("redis://127.0.0.1:1/0", patience=0))
    for call in (store.probe, lambda: store.get("x"), lambda: store.create(spec, "x")):
        with pytest.raises(Unavailable):
            call()
