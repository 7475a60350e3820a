"""Who may call: keys and scopes, limits, the login of browsers, other sites' pages."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.access.api_keys import new_key
from coreset.queue.job_store import JobStore
from coreset.schemas.job import JobStatus
from coreset.settings import ServiceSettings
from coreset.storage.storage import Storage
from coreset_service.app import create_app
from tests.service.conftest import SPEC

ADMIN, _ADMIN = new_key("admin", ["read", "submit"])
READER, _READER = new_key("reader", ["read"])
WRITER, _WRITER = new_key("writer", ["submit"])
KEYS = ";".join(entry.line for entry in (_ADMIN, _READER, _WRITER))

Open = Callable[..., TestClient]


@pytest.fixture
def opened(redis: Redis, storage: Storage) -> Iterator[Open]:
    """Make a service with settings, and a client that sends a key."""
    clients: list[TestClient] = []

    def opening(key: str | None = None, **settings: object) -> TestClient:
        made = ServiceSettings.model_validate({"storage": storage.root, "api_keys": KEYS, **settings})
        client = TestClient(create_app(made, redis=redis, storage=storage), follow_redirects=False)
        if key:
            client.headers["Authorization"] = f"Bearer {key}"
        clients.append(client)
        return client

    yield opening
    for client in clients:
        client.close()


def test_without_a_key_nothing_is_told(opened: Open) -> None:
    api = opened()
    for method, path in [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/metrics"), ("GET", "/"), ("GET", "/x")]:
        answer = api.request(method, path)
        assert answer.status_code == 401, path
        assert answer.json()["type"] == "/problems/unauthorized"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/version",
        "/openapi.json",
        "/docs",
        "/static/page.css",
        "/login",
        "/problems/unauthorized",
    ],
)
def test_probes_and_the_way_in_are_open(opened: Open, path: str) -> None:
    assert opened().get(path).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer ", "Basic eDp5", f"Token {ADMIN}", ADMIN],
    ids=["wrong", "empty", "basic", "token", "bare"],
)
def test_a_wrong_key_is_refused(opened: Open, header: str) -> None:
    answer = opened().get("/v1/jobs", headers={"Authorization": header})
    assert answer.status_code == 401
    assert ADMIN not in answer.text


def test_scopes_are_kept(opened: Open) -> None:
    assert opened(READER).get("/v1/jobs").status_code == 200
    refused = opened(READER).post("/v1/jobs", json=SPEC)
    assert refused.status_code == 403
    assert refused.json() | {"needed": "submit"} == refused.json()
    assert opened(WRITER).post("/v1/jobs", json=SPEC).status_code == 202
    assert opened(WRITER).get("/v1/jobs").status_code == 403
    assert opened(ADMIN).post("/v1/jobs", json=SPEC).status_code == 202


def test_a_caller_without_a_key_is_refused_before_the_body_is_read(opened: Open) -> None:
    api = opened(max_body_bytes=1024)
    assert api.post("/v1/jobs", content=b"x" * 2048).status_code == 401
    api.headers["Authorization"] = f"Bearer {ADMIN}"
    assert api.post("/v1/jobs", content=b"x" * 2048).status_code == 413


def test_open_jobs_of_a_key_are_limited(opened: Open, store: JobStore) -> None:
    api = opened(WRITER, max_open_jobs=2)
    ids = [api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": str(n)}).json()["id"] for n in range(2)]
    refused = api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "2"})
    assert refused.status_code == 429
    assert refused.json()["type"] == "/problems/too-many-open-jobs"
    assert int(refused.headers["Retry-After"]) > 0
    again = api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "1"})
    assert again.json()["id"] == ids[1]  # one that is there is no new one
    assert opened(ADMIN, max_open_jobs=2).post("/v1/jobs", json=SPEC).status_code == 202
    store.transition(ids[0], JobStatus.FAILED)
    assert api.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "2"}).status_code == 202
    assert api.post("/v1/jobs", json=SPEC).status_code == 429


def test_idempotency_keys_are_each_callers_own(opened: Open) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = opened(WRITER).post("/v1/jobs", json=SPEC, headers=headers).json()["id"]
    assert opened(ADMIN).post("/v1/jobs", json=SPEC, headers=headers).json()["id"] != first


def test_a_full_queue_takes_no_job(opened: Open) -> None:
    api = opened(ADMIN, max_waiting_tasks=1)
    assert api.post("/v1/jobs", json=SPEC).status_code == 202
    refused = api.post("/v1/jobs", json=SPEC)
    assert refused.status_code == 429
    assert refused.json()["type"] == "/problems/queue-full"
    assert refused.headers["Retry-After"] == "60"


def test_each_key_has_its_rate(opened: Open) -> None:
    api = opened(READER, rate_per_minute=3)
    assert [api.get("/v1/jobs").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert 0 < int(api.get("/v1/jobs").headers["Retry-After"]) <= 60
    assert api.get("/v1/jobs", headers={"Authorization": f"Bearer {ADMIN}"}).status_code == 200
    assert api.get("/healthz").status_code == 200


def test_guessing_keys_is_slowed_down(opened: Open) -> None:
    api = opened(rate_per_minute=2)
    codes = [api.get("/v1/jobs", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(3)]
    assert codes == [401, 401, 429]
    assert api.post("/login", data={"key": "guess"}).status_code == 429


def test_a_browser_logs_in_by_cookie(opened: Open) -> None:
    browser = opened()
    asked = browser.get("/jobs/j1", headers={"Accept": "text/html"})
    assert (asked.status_code, asked.headers["Location"]) == (303, "/login?next=/jobs/j1")
    assert browser.post("/login?next=/", data={"key": "wrong"}).status_code == 401
    entered = browser.post("/login?next=/jobs/j1", data={"key": ADMIN})
    assert (entered.status_code, entered.headers["Location"]) == (303, "/jobs/j1")
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert browser.get("/").status_code == 200
    assert browser.get("/v1/jobs").status_code == 200
    browser.post("/logout")
    assert browser.get("/v1/jobs").status_code == 401


@pytest.mark.parametrize("goal", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_login_leads_to_our_own_pages_only(opened: Open, goal: str) -> None:
    assert opened().post("/login", params={"next": goal}, data={"key": ADMIN}).headers["Location"] == "/"


def test_a_cookie_is_not_enough_for_another_sites_page(opened: Open) -> None:
    browser = opened()
    browser.post("/login", data={"key": ADMIN})
    for headers in ({}, {"Origin": "http://localhost:9"}, {"Origin": "null"}):
        assert browser.post("/v1/jobs", json=SPEC, headers=headers).status_code == 403
    assert browser.post("/v1/jobs", json=SPEC, headers={"Origin": "http://testserver"}).status_code == 202


def test_without_keys_no_other_sites_page_gets_through(opened: Open) -> None:
    api = opened(api_keys="")
    assert api.get("/v1/jobs").status_code == 200
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "service:8000", "a.b.svc", "10.0.0.7"):
        assert api.get("/v1/jobs", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.nip.io", "[", "a@b", ""):
        assert api.get("/v1/jobs", headers={"Host": host}).status_code == 403, host
    assert api.post("/v1/jobs", json=SPEC, headers={"Origin": "https://evil.example"}).status_code == 403
    assert api.post("/v1/jobs", json=SPEC, headers={"Origin": "http://testserver"}).status_code == 202


def test_the_schema_tells_of_the_key(opened: Open) -> None:
    schema = opened().get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    assert schema["paths"]["/v1/jobs"]["post"]["security"] == [{"api_key": []}]


@contextmanager
def started(**settings: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "CORESET_PORT": "0", "CORESET_LOG_FORMAT": "json", **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "coreset_service"],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"CORESET_HOST": "0.0.0.0"}, "without API keys the service listens on the loopback only, not on 0.0.0.0"),
        ({"CORESET_API_KEYS": "x y z"}, "API key 1 is not NAME SCOPES SHA256"),
        ({"CORESET_ALLOWED_URIS": "ftp://x"}, "ftp: is not read"),
    ],
)
def test_the_service_does_not_start_with_an_open_door(redis_url: str, settings: dict[str, str], said: str) -> None:
    with started(CORESET_REDIS_URL=redis_url, **settings) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said in errors


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "the service listens on the loopback only"),
        ({"CORESET_HOST": "0.0.0.0", "CORESET_OPEN": "true"}, "everyone who can reach the service may use it"),
        ({"CORESET_HOST": "0.0.0.0", "CORESET_API_KEYS": KEYS}, "service starts"),
    ],
    ids=["loopback", "open", "keys"],
)
def test_the_service_says_who_may_call(redis_url: str, settings: dict[str, str], said: str) -> None:
    with started(CORESET_REDIS_URL=redis_url, **settings) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Uvicorn running" in line or "startup complete" in line:
                break
        assert any(said in line for line in lines), lines
