"""Deleted jobs: their files go, a plan with its last job, and nothing that somebody still uses."""

import json
import threading
import time

import pytest
from redis import Redis

from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset.schemas.plan import PlannedModel
from coreset.schemas.training import TrainingPlan
from coreset.spec.job import JobSpec
from coreset.storage.layout import PlanFolder, RunFolder
from coreset.storage.plan_references import add_reference, remove_reference
from coreset.storage.runs import save_training_plan
from coreset.storage.storage import Storage
from coreset_service.maintenance.reconciler import Reconciler
from coreset_service.maintenance.retention import Retention


@pytest.fixture
def retention(store: JobStore, queue: TaskQueue, storage: Storage) -> Retention:
    return Retention(store, queue, storage)


def ended(store: JobStore, storage: Storage, spec: JobSpec, job_id: str, plan_id: str | None = "p1") -> str:
    """A job that has failed, and what workers write for it."""
    store.create(spec, job_id)
    storage.write(f"jobs/{job_id}/manifest.json", b"{}")
    if plan_id is not None:
        storage.write(f"jobs/{job_id}/plan.json", json.dumps({"plan_id": plan_id}).encode())
        add_reference(storage, store.locks, PlanFolder(plan_id), job_id)
        storage.write(f"plans/{plan_id}/parts/000000.parquet", b"scores")
    store.transition(job_id, JobStatus.FAILED)
    return job_id


def test_a_plan_goes_with_its_last_job(store: JobStore, storage: Storage, spec: JobSpec, retention: Retention) -> None:
    for job_id in ("a", "b"):
        ended(store, storage, spec, job_id)
    ended(store, storage, spec, "other", "p2")
    ended(store, storage, spec, "planless", None)
    store.delete("a")
    store.delete("planless")
    retention.sweep()
    assert storage.names("jobs") == ["b", "other"]
    assert storage.exists("plans/p1/parts/000000.parquet"), "b uses it"
    store.delete("b")
    retention.sweep()
    assert (storage.names("jobs"), storage.names("plans")) == (["other"], ["p2"])
    assert store.removals.pending() == []


def test_a_trained_run_goes_with_its_last_job(
    store: JobStore, storage: Storage, spec: JobSpec, retention: Retention
) -> None:
    trained = TrainingPlan(
        shards=[],
        caption_field=None,
        validation=None,
        model=PlannedModel(name="a", config={}, source="spec"),
        samples=100,
        held_out=0.1,
        intervals=4,
        interval_steps=1,
        batch_size=8,
        lr=1e-3,
        seed=0,
        checkpoints=2,
    )
    for job_id in ("a", "b"):
        ended(store, storage, spec, job_id, None)  # cancelled while training, before there was a plan
        save_training_plan(storage, job_id, trained)
        add_reference(storage, store.locks, RunFolder(trained.id), job_id)
    storage.write(RunFolder(trained.id).state(1), b"weights")
    store.delete("a")
    retention.sweep()
    assert storage.exists(RunFolder(trained.id).state(1)), "b uses it"
    store.delete("b")
    retention.sweep()
    assert storage.names("runs") == []


def test_files_wait_for_a_task_that_still_runs(
    store: JobStore, storage: Storage, spec: JobSpec, retention: Retention, redis: Redis
) -> None:
    store.delete(ended(store, storage, spec, "a"))
    redis.zadd("rq:wip:gpu", {"a-score-0:execution": time.time() + 60})  # a worker holds a lease
    retention.sweep()
    assert storage.names("jobs") == ["a"]
    redis.delete("rq:wip:gpu")
    retention.sweep()
    assert storage.names("jobs") == []


def test_a_removal_that_died_half_way_is_done_again(
    store: JobStore, storage: Storage, spec: JobSpec, retention: Retention
) -> None:
    store.delete(ended(store, storage, spec, "a"))
    assert remove_reference(storage, store.locks, PlanFolder("p1"), "a")
    assert store.removals.pending() == ["a"]
    retention.sweep()
    assert (storage.names("jobs"), storage.names("plans"), store.removals.pending()) == ([], [], [])


def test_the_reconciler_deletes_what_is_over(
    store: JobStore, queue: TaskQueue, storage: Storage, spec: JobSpec, retention: Retention, redis: Redis
) -> None:
    brief = spec.model_copy(update={"ttl_seconds_after_finished": 60})
    ended(store, storage, brief, "brief")
    ended(store, storage, spec, "kept")
    redis.zincrby("coreset:expiries", -61, "brief")
    reconciler = Reconciler(store, queue, 0.02, [retention.sweep])
    reconciler.start()
    deadline = time.monotonic() + 10
    while storage.exists("jobs/brief") and time.monotonic() < deadline:
        time.sleep(0.01)
    reconciler.stop()
    assert storage.names("jobs") == ["kept"]
    assert [job.id for job in store.listing.page().jobs] == ["kept"]


def test_a_job_that_joins_while_its_plan_is_removed_waits_and_is_noted(store: JobStore, storage: Storage) -> None:
    add_reference(storage, store.locks, PlanFolder("p1"), "a")
    assert store.locks.acquire("remove-plan-p1", 60)  # somebody removes
    joiner = threading.Thread(target=add_reference, args=(storage, store.locks, PlanFolder("p1"), "b"))
    joiner.start()
    joiner.join(timeout=0.3)
    assert joiner.is_alive()
    storage.delete("plans/p1")
    store.locks.release("remove-plan-p1")
    joiner.join(timeout=10)
    assert storage.names("plans/p1/jobs") == ["b"]
    assert not remove_reference(storage, store.locks, PlanFolder("p1"), "a")
    assert remove_reference(storage, store.locks, PlanFolder("p1"), "b")
