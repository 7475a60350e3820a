"""What a job's selections are worth, over HTTP."""

from fastapi.testclient import TestClient

from coreset.queue.job_store import JobStore, new_job_id
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_service.api_docs.examples import EVALUATION
from tests.service.conftest import SPEC

WITH = {**SPEC, "evaluate": {"test": {"shards": ["/held_out.tar"]}}}


def evaluated(store: JobStore, storage: Storage) -> str:
    job_id = store.create(JobSpec.model_validate(WITH), new_job_id()).id
    for status in (JobStatus.PREPARING, JobStatus.SCORING, JobStatus.REDUCING, JobStatus.SUCCEEDED):
        store.transition(job_id, status)
    body = Evaluation.model_validate(EVALUATION).model_dump_json(indent=2)
    storage.write(f"jobs/{job_id}/evaluation.json", body.encode())
    return job_id


def test_an_evaluation_is_read_once(api: TestClient, store: JobStore, storage: Storage) -> None:
    job_id = evaluated(store, storage)
    address = api.get(f"/v1/jobs/{job_id}").json()["links"]["evaluation"]
    answer = api.get(address)
    assert answer.status_code == 200
    assert Evaluation.model_validate_json(answer.content) == Evaluation.model_validate(EVALUATION)
    again = api.get(address, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_job_without_one_says_how_to_get_it(api: TestClient, succeeded: str) -> None:
    assert "evaluation" not in api.get(f"/v1/jobs/{succeeded}").json()["links"]
    answer = api.get(f"/v1/jobs/{succeeded}/evaluation")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert f"coreset evaluate {succeeded} --test" in answer.json()["detail"]


def test_before_the_end_there_is_none(api: TestClient) -> None:
    job_id = api.post("/v1/jobs", json=WITH).json()["id"]
    assert api.get(f"/v1/jobs/{job_id}/evaluation").status_code == 409


def test_a_test_outside_of_the_allowed_places_is_refused(api: TestClient) -> None:
    answer = api.post("/v1/jobs", json={**WITH, "evaluate": {"test": {"shards": ["ftp://host/x.tar"]}}})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/location-forbidden")
