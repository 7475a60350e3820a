"""Selections over HTTP, with a select of the test's."""

import json

import pytest
from fastapi.testclient import TestClient

from coreset.storage.storage import Storage


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


def test_what_the_parts_do_not_hold_is_an_invalid_spec(api: TestClient, succeeded: str) -> None:
    wish = {"k": 1, "filters": {"image_width": {"min": 3}}}
    answer = api.post(f"/v1/jobs/{succeeded}/selections", json=wish)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-spec")
    assert answer.json()["detail"].endswith("of an older version with fewer columns: post the job again")


def test_selections_are_listed_newest_first_in_pages(api: TestClient, storage: Storage, succeeded: str) -> None:
    assert api.get(f"/v1/jobs/{succeeded}/selections").json() == {
        "object": "list", "selections": [], "next_page_token": None,
    }  # fmt: skip
    first = api.post(f"/v1/jobs/{succeeded}/selections", json={"k": 1}).json()
    for number in range(2, 6):
        later = {**first, "id": f"s{number}", "created_at": f"2026-11-23T12:0{min(number, 4)}:00Z"}
        storage.write(f"jobs/{succeeded}/selections/s{number}/selection.json", json.dumps(later).encode())
    storage.write(f"jobs/{succeeded}/selections/half/subset.npy", b"not complete yet")
    found, token = [], ""
    while token is not None:
        params = {"page_size": 2} | ({"page_token": token} if token else {})
        page = api.get(f"/v1/jobs/{succeeded}/selections", params=params).json()
        found += [selection["id"] for selection in page["selections"]]
        token = page["next_page_token"]
    assert found == ["s5", "s4", "s3", "s2", "s1"]
    assert api.get("/v1/jobs/j0/selections").status_code == 404
    assert api.get(f"/v1/jobs/{succeeded}/selections", params={"page_token": "x"}).status_code == 422


@pytest.mark.parametrize("path", ["", "/files/subset.npy"])
def test_who_has_it_already_is_told_so(api: TestClient, succeeded: str, path: str) -> None:
    location = api.post(f"/v1/jobs/{succeeded}/selections", json={"k": 1}).headers["Location"] + path
    answer = api.get(location)
    assert answer.headers["Cache-Control"] == "private, max-age=3600"
    again = api.get(location, headers={"If-None-Match": f'"other", W/{answer.headers["ETag"]}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert api.get(location, headers={"If-None-Match": '"other"'}).content == answer.content
