"""Point 10: a record that this version cannot read is shown as such, and breaks nothing but itself."""

import json

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset_service.maintenance.reconciler import Reconciler
from tests.service.conftest import SPEC


def unknown_field(redis: Redis, job_id: str) -> None:
    spec = {**SPEC, "from_a_newer_version": {"a": 1}, "select": {"fraction": 0.3, "new_rule": [1]}}
    redis.hset(f"coreset:job:{job_id}", "spec", json.dumps(spec))


def unknown_status(redis: Redis, job_id: str) -> None:
    redis.hset(f"coreset:job:{job_id}", "status", "paused")


def torn(redis: Redis, job_id: str) -> None:
    redis.hset(f"coreset:job:{job_id}", "spec", b'{"pool": \xff')


@pytest.fixture(params=[unknown_field, unknown_status, torn])
def broken(request: pytest.FixtureRequest, api: TestClient, redis: Redis) -> str:
    """A job whose record this version cannot read, beside one that it can."""
    first, second = (api.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2))
    request.param(redis, first)
    assert second != first
    return first


def test_lists_and_pages_answer_and_show_it(api: TestClient, broken: str) -> None:
    for path in ("/", "/metrics", "/readyz", f"/jobs/{broken}", f"/v1/jobs/{broken}/events"):
        if not path.endswith("events"):
            assert api.get(path).status_code == 200, path
    jobs = {job["id"]: job for job in api.get("/v1/jobs").json()["jobs"]}
    assert sorted(job["status"] for job in jobs.values()) == ["queued", "unreadable"]
    job = api.get(f"/v1/jobs/{broken}").json()
    assert (job["status"], job["reason"]["code"]) == ("unreadable", "unreadable")
    assert "delete the job" in job["reason"]["message"]
    assert job["spec"]["pool"]["shards"] in (SPEC["pool"]["shards"], ["unreadable"])


def test_it_can_be_deleted(api: TestClient, broken: str) -> None:
    assert api.delete(f"/v1/jobs/{broken}").status_code == 204
    assert [job["status"] for job in api.get("/v1/jobs").json()["jobs"]] == ["queued"]


def test_the_reconciler_and_other_jobs_go_on(
    api: TestClient, broken: str, store: JobStore, queue: TaskQueue, redis: Redis
) -> None:
    redis.delete("rq:queue:gpu")
    Reconciler(store, queue, 0).reconcile()
    other = api.post("/v1/jobs", json=SPEC).json()["id"]
    assert store.status(other) is JobStatus.QUEUED
    store.transition(other, JobStatus.PREPARING)
    queue.enqueue_scoring(other, [range(1)])
    assert api.post(f"/v1/jobs/{other}/cancel").status_code == 202
