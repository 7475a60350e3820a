"""Point 10: a record that this version cannot read is shown as such, and breaks nothing but itself."""

import json
import logging

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.queue.job_store import JobStore
from coreset.queue.task_ids import QUEUES
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset.settings import WorkerSettings
from coreset.storage.storage import Storage
from coreset_service.maintenance.reconciler import Reconciler
from coreset_workers.process.runtime import Runtime, install
from tests.service.conftest import SPEC
from tests.service.routes.test_preflight import TestWorker


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


def test_a_worker_refuses_it_and_goes_on_with_other_jobs(
    api: TestClient, broken: str, redis: Redis, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """What is readable of the spec must not run either: it is another job than the caller's."""
    import coreset_workers.tasks  # noqa: F401  # torch takes seconds

    install(Runtime.build(WorkerSettings(storage=storage.root), redis))
    with caplog.at_level(logging.ERROR):
        TestWorker(QUEUES, redis).work(burst=True, logging_level=None)
    [line] = [record.getMessage() for record in caplog.records if "job refused" in record.getMessage()]
    assert broken in line
    assert "this version cannot read the job's record" in line
    stored = redis.hget(f"coreset:job:{broken}", "status")
    assert stored == b"paused" or (
        stored == b"failed" and b"a worker refused the job" in redis.hget(f"coreset:job:{broken}", "reason_message")
    )
    [task] = redis.keys(f"rq:job:{broken}-prepare")
    assert redis.hget(task, "status") == b"finished", "it is not tried again"
    others = [job for job in api.get("/v1/jobs").json()["jobs"] if job["id"] != broken]
    assert [job["reason"]["code"] for job in others] == ["shard-unreadable"], "it ran: /pool does not exist"


def test_a_preflight_of_another_version_says_so() -> None:
    from coreset_workers.tasks import check

    answer = check({**SPEC, "from_a_newer_version": {"a": 1}})
    assert answer["problem"]["type"] == "unavailable"
    assert "from_a_newer_version" in answer["problem"]["detail"]
