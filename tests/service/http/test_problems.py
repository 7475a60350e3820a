"""Every error is a problem with a stable type and a request id, and never an exception's text."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coreset_service.dependencies import Context

SPEC = {
    "pool": {"shards": ["/pool/0.tar"]},
    "checkpoints": {"run": "/logs/demo"},
    "select": {"fraction": 0.3},
}


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/v1/jobs/nobody", 404, "not-found"),
        ("GET", "/v1/jobs/nobody/result", 404, "not-found"),
        ("POST", "/v1/jobs/nobody/cancel", 404, "not-found"),
        ("GET", "/v1/jobs/nobody/selections/x", 404, "not-found"),
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/v1/jobs", 405, "method-not-allowed"),
        ("GET", "/v1/jobs?page_size=x", 422, "invalid-input"),
        ("GET", "/v1/jobs?status=x", 422, "invalid-input"),
        ("GET", "/v1/jobs/..%2F..%2Fetc", 404, "not-found"),
        ("GET", "/v1/jobs/a%20b", 422, "invalid-input"),
    ],
)
def test_errors_are_problems(api: TestClient, method: str, path: str, status: int, slug: str) -> None:
    answer = api.request(method, path)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{slug}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert problem["title"]
    assert problem["detail"]
    assert api.get(problem["type"]).json()["title"] == problem["title"]


def test_a_bad_spec_names_every_field(api: TestClient) -> None:
    bad = {**SPEC, "select": {"k": 0}, "typo": 1}
    problem = api.post("/v1/jobs", json=bad).json()
    assert problem["type"] == "/problems/invalid-spec"
    assert {error["field"] for error in problem["errors"]} == {"select.k", "typo"}
    assert all(error["message"] for error in problem["errors"])


def test_a_pipe_is_refused(api: TestClient) -> None:
    problem = api.post("/v1/jobs", json={**SPEC, "pool": {"shards": ["pipe:cat /etc/passwd"]}}).json()
    assert problem["type"] == "/problems/invalid-spec"
    assert "shell" in problem["detail"]


def test_what_is_not_json_is_told(api: TestClient) -> None:
    answer = api.post("/v1/jobs", content=b"{nope", headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "not JSON" in answer.json()["detail"]


def test_a_large_body_is_413_whether_announced_or_not(api: TestClient) -> None:
    big = b"x" * 5000
    headers = {"Content-Type": "application/json"}
    for body in (big, iter([big[:2500], big[2500:]])):
        answer = api.post("/v1/jobs", content=body, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


def test_a_fault_is_500_and_keeps_its_text(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    context: Context = app.state.context

    def broken(*arguments: object) -> None:
        raise RuntimeError("password is hunter2")

    monkeypatch.setattr(context.store.listing, "page", broken)
    with TestClient(app, raise_server_exceptions=False) as api:
        answer = api.get("/v1/jobs")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert "hunter2" not in answer.text
    assert answer.headers["X-Request-ID"] in answer.text


def test_a_storage_fault_is_503_and_keeps_its_text(
    app: FastAPI, succeeded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise PermissionError("/secret/place")

    monkeypatch.setattr(app.state.context.storage, "read", broken)
    with TestClient(app) as api:
        answer = api.get(f"/v1/jobs/{succeeded}/result")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert "secret" not in answer.text


def test_request_ids_go_in_and_out(api: TestClient) -> None:
    assert api.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    bad = "x" * 200
    assert api.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"] != bad
