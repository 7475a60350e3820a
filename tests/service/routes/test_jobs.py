"""Jobs over HTTP: post, idempotency, list, look, wait, cancel, result."""

import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.queue.job_store import JobStore, new_job_id
from coreset.redis.connection import connect
from coreset.schemas.job import JobStatus
from coreset.settings import ServiceSettings
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_service.app import create_app

SPEC = {
    "pool": {"shards": ["/pool/{000000..000005}.tar"]},
    "checkpoints": {"run": "/logs/demo"},
    "select": {"fraction": 0.3},
}


@pytest.fixture
def job(api: TestClient) -> str:
    return api.post("/v1/jobs", json=SPEC).json()["id"]


def test_post_answers_202_with_the_job_and_puts_prepare_on_the_queue(api: TestClient, redis: Redis) -> None:
    answer = api.post("/v1/jobs", json=SPEC)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert "Retry-After" in answer.headers
    assert (job["object"], job["status"]) == ("job", "queued")
    assert job["spec"]["pool"]["shards"] == SPEC["pool"]["shards"]
    assert redis.lrange("rq:queue:gpu", 0, -1) == [f"{job['id']}-prepare".encode()]


def test_a_job_that_cleans_selects_all_but_its_suspects(api: TestClient) -> None:
    cleaning = {name: SPEC[name] for name in ("pool", "checkpoints")} | {"clean": {"fraction": 0.1, "by": "loss"}}
    spec = api.post("/v1/jobs", json=cleaning).json()["spec"]
    assert spec["clean"] == {"fraction": 0.1, "by": {"loss": 1}}
    assert (spec["select"]["fraction"], spec["select"]["by"]) == (0.9, {"loss": 1})
    again = api.post("/v1/jobs", json=spec).json()
    assert again["spec"] == spec, "what a job shows can be posted"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "give `select`, or `clean`"),
        ({"clean": {"fraction": 0}}, "clean.fraction"),
        ({"clean": {"fraction": 0.1}, "select": {"k": 5}}, "give one of `clean` and `select`"),
        ({"clean": {"fraction": 0.1, "by": "self_influence"}}, "clean names scores that this job does not compute"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(api: TestClient, fields: dict[str, object], expected: str) -> None:
    answer = api.post("/v1/jobs", json={name: SPEC[name] for name in ("pool", "checkpoints")} | fields)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-spec")
    assert expected in answer.json()["detail"]


def test_the_same_key_gives_the_same_job(api: TestClient, redis: Redis) -> None:
    first, second = (
        api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": key}) for key in ("abc", '"abc"')
    )  # the IETF draft quotes keys
    assert first.json()["id"] == second.json()["id"]
    assert redis.llen("rq:queue:gpu") == 1
    other = api.post("/v1/jobs", json={**SPEC, "seed": 5}, headers={"Idempotency-Key": "abc"})
    assert (other.status_code, other.json()["type"]) == (422, "/problems/invalid-input")


def test_a_key_repairs_a_post_that_died_before_the_queue(api: TestClient, redis: Redis) -> None:
    first = api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "abc"}).json()
    redis.delete("rq:queue:gpu", f"rq:job:{first['id']}-prepare")
    api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "abc"})
    assert redis.llen("rq:queue:gpu") == 1


def test_get_has_an_etag_and_304(api: TestClient, store: JobStore, job: str) -> None:
    first = api.get(f"/v1/jobs/{job}")
    etag = first.headers["ETag"]
    same = api.get(f"/v1/jobs/{job}", headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    store.transition(job, JobStatus.PREPARING)
    changed = api.get(f"/v1/jobs/{job}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["status"]) == (200, "preparing")
    assert "Retry-After" in changed.headers


def test_wait_holds_until_the_job_changes(api: TestClient, store: JobStore, job: str) -> None:
    etag = api.get(f"/v1/jobs/{job}").headers["ETag"]
    changer = threading.Timer(0.4, store.transition, (job, JobStatus.PREPARING))
    changer.start()
    start = time.monotonic()
    answer = api.get(f"/v1/jobs/{job}?wait=20", headers={"If-None-Match": etag})
    changer.join()
    assert answer.json()["status"] == "preparing"
    assert 0.3 < time.monotonic() - start < 5


def test_wait_without_an_etag_holds_until_the_end_or_the_time(api: TestClient, store: JobStore, job: str) -> None:
    start = time.monotonic()
    assert api.get(f"/v1/jobs/{job}?wait=1").json()["status"] == "queued"
    assert time.monotonic() - start >= 1
    store.transition(job, JobStatus.FAILED)
    start = time.monotonic()
    ended = api.get(f"/v1/jobs/{job}?wait=20")
    assert time.monotonic() - start < 2
    assert "Retry-After" not in ended.headers
    assert "cancel" not in ended.json()["links"]


def test_lists_page_through_and_filter(api: TestClient, store: JobStore) -> None:
    ids = [api.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(3)]
    store.transition(ids[0], JobStatus.PREPARING)
    first = api.get("/v1/jobs?page_size=2").json()
    rest = api.get("/v1/jobs", params={"page_size": 2, "page_token": first["next_page_token"]}).json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next_page_token"] is None
    assert [job["id"] for job in api.get("/v1/jobs?status=preparing").json()["jobs"]] == [ids[0]]
    assert api.get("/v1/jobs?page_size=100000").status_code == 200
    assert api.get("/v1/jobs?page_token=zzz").json()["type"] == "/problems/invalid-input"


def test_cancel_is_202_again_and_again_then_409(api: TestClient, store: JobStore, redis: Redis, job: str) -> None:
    first = api.post(f"/v1/jobs/{job}/cancel")
    assert (first.status_code, first.json()["status"]) == (202, "cancelling")
    assert api.get(f"/v1/jobs/{job}?wait=10").json()["status"] == "cancelled"
    assert redis.llen("rq:queue:gpu") == 0
    again = api.post(f"/v1/jobs/{job}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/conflict")
    running = store.create(JobSpec.model_validate(SPEC), new_job_id()).id
    redis.zadd("rq:wip:gpu", {f"{running}-score-0:execution": time.time() + 60})  # a worker holds a lease
    for _ in range(2):
        assert api.post(f"/v1/jobs/{running}/cancel").status_code == 202
    assert api.get(f"/v1/jobs/{running}").json()["status"] == "cancelling"
    redis.delete("rq:wip:gpu")
    assert api.get(f"/v1/jobs/{running}").json()["status"] == "cancelled"


def test_result_and_report_are_409_until_the_job_has_succeeded(api: TestClient, job: str, succeeded: str) -> None:
    for what in ("result", "report"):
        early = api.get(f"/v1/jobs/{job}/{what}")
        assert (early.status_code, early.json()["type"]) == (409, "/problems/conflict")
    assert api.get(f"/v1/jobs/{succeeded}/result").json() == {"made": "by workers"}
    assert api.get(f"/v1/jobs/{succeeded}/report").text == "<h1>report</h1>"


def test_no_redis_is_503_with_retry_after(tmp_path: Path) -> None:
    settings = ServiceSettings(storage=str(tmp_path))
    app = create_app(settings, redis=connect("redis://127.0.0.1:1/0", patience=0))
    with TestClient(app) as api:
        for answer in (api.post("/v1/jobs", json=SPEC), api.get("/v1/jobs/x"), api.get("/readyz"), api.get("/")):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert "Retry-After" in answer.headers
        assert api.get("/healthz").status_code == 200


def test_only_an_ended_job_is_deleted_and_its_files_with_it(
    api: TestClient, storage: Storage, job: str, succeeded: str
) -> None:
    early = api.delete(f"/v1/jobs/{job}")
    assert (early.status_code, early.json()["type"]) == (409, "/problems/conflict")
    assert api.get(f"/v1/jobs/{job}").status_code == 200
    answer = api.delete(f"/v1/jobs/{succeeded}")
    assert (answer.status_code, answer.content) == (204, b"")
    for call in (api.get, api.delete):
        assert call(f"/v1/jobs/{succeeded}").status_code == 404
    assert storage.names("jobs") == []
    assert [one["id"] for one in api.get("/v1/jobs").json()["jobs"]] == [job]
