"""Point 16, the service's part: HEAD, Allow, bodies that are no JSON, text that is none, and odd tokens."""

import base64
import json

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import SPEC


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/version", "/docs", "/v1/jobs", "/login", "/metrics"])
def test_head_answers_as_get_does_without_a_body(api: TestClient, path: str) -> None:
    head, get = api.head(path), api.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_head_of_a_stream_ends(api: TestClient) -> None:
    job = api.post("/v1/jobs", json=SPEC).json()["id"]
    assert api.head(f"/v1/jobs/{job}/events").status_code == 200
    assert api.head("/v1/jobs/nobody").status_code == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/j1", "DELETE, GET, HEAD"),
        ("/v1/jobs/j1/cancel", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/login", "GET, HEAD, POST"),
    ],
)
def test_allow_names_all_methods(api: TestClient, path: str, allowed: str) -> None:
    refused = api.put(path)
    assert (refused.status_code, refused.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Content-Encoding": "gzip"}],
    ids=["none", "text", "gzip"],
)
def test_a_body_that_is_not_declared_as_plain_json_is_415(api: TestClient, headers: dict[str, str]) -> None:
    refused = api.post("/v1/jobs", content=json.dumps(SPEC), headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert refused.json()["detail"].count(";") == 1
    kind = {"Content-Type": "application/vnd.coreset+json; charset=utf-8"}
    assert api.post("/v1/jobs", content=json.dumps(SPEC), headers=kind).status_code == 202


@pytest.mark.parametrize("odd", ["\\ud800", "\\udfff", "a\\u0000b"])
@pytest.mark.parametrize("field", ["model.name", "checkpoints.run", "pool.caption_field", "pool.shards.0"])
def test_text_that_cannot_be_stored_is_422(api: TestClient, odd: str, field: str) -> None:
    body = json.loads(json.dumps({**SPEC, "model": {"name": "tiny"}}))
    *parents, last = field.split(".")
    inner = body
    for parent in parents:
        inner = inner[parent]
    inner[int(last) if last.isdigit() else last] = "ODD"
    text = json.dumps(body).replace("ODD", odd)
    refused = api.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_escapes_that_are_text_pass(api: TestClient) -> None:
    body = json.dumps({**SPEC, "pool": {"shards": ["/p/0.tar"], "caption_field": "\\u0000 \U0001f600"}})
    assert api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"}).status_code == 202


TOKENS = ['[NaN,"j1",""]', '[Infinity,"j1",""]', '[1e999,"j1",""]', f'[{10**400},"j",""]', '[[],1,""]']
TOKENS += ["{}", "null", "[1]", "[" * 370, '"\\ud800"', '[1,"\\ud800",""]']


@pytest.mark.parametrize("text", TOKENS)
def test_an_odd_page_token_is_422(api: TestClient, text: str) -> None:
    token = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    answer = api.get("/v1/jobs", params={"page_token": token})
    assert answer.status_code in (200, 422)
    assert answer.status_code == 422 or "ud800" in text


@pytest.mark.parametrize("token", ["\0", "é", "=", "a b", "x" * 500])
def test_a_page_token_that_is_no_token_is_422(api: TestClient, token: str) -> None:
    assert api.get("/v1/jobs", params={"page_token": token}).status_code == 422
