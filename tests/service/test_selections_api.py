"""Selections over HTTP, with a select of the test's."""

import pytest
from fastapi.testclient import TestClient


def test_post_cuts_a_selection_and_its_files_come_back(api: TestClient, succeeded: str) -> None:
    answer = api.post(f"/v1/jobs/{succeeded}/selections", json={"k": 1, "by": "clip_score"})
    selection = answer.json()
    assert (answer.status_code, selection["object"], selection["k"]) == (201, "selection", 1)
    location = answer.headers["Location"]
    assert api.get(location).json() == selection
    file = api.get(f"{location}/files/subset.npy")
    assert file.content == b"uids"
    assert file.headers["Content-Disposition"] == 'attachment; filename="subset.npy"'


def test_a_job_that_has_not_succeeded_is_a_conflict(api: TestClient) -> None:
    spec = {"pool": {"shards": ["/a.tar"]}, "checkpoints": {"run": "/r"}, "select": {"k": 1}}
    job = api.post("/v1/jobs", json=spec).json()["id"]
    assert api.post(f"/v1/jobs/{job}/selections", json={"k": 1}).status_code == 409


@pytest.mark.parametrize(
    "body", [{}, {"k": 1, "fraction": 0.5}, {"k": 1, "write_shards": True}, {"k": 1, "by": "tracin"}]
)
def test_bad_wishes_are_invalid_specs(api: TestClient, succeeded: str, body: dict[str, object]) -> None:
    answer = api.post(f"/v1/jobs/{succeeded}/selections", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-spec")


@pytest.mark.parametrize(
    "name", ["manifest.json", "%2E%2E%2F", "..%2F..%2Fmanifest.json", ".subset.npy", "subset.npy%00"]
)
def test_only_the_known_files_are_served(api: TestClient, succeeded: str, name: str) -> None:
    api.post(f"/v1/jobs/{succeeded}/selections", json={"k": 1})
    answer = api.get(f"/v1/jobs/{succeeded}/selections/s1/files/{name}")
    assert answer.status_code in (404, 422)
    assert b"made" not in answer.content
