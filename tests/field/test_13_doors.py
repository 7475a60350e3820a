"""Point 13: addresses, sessions, and what readers are shown."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import httpx
import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.access.addresses import is_public
from coreset.access.api_keys import new_key
from coreset.browsing.export_formats import encode_rows
from coreset.errors import Unauthorized
from coreset.redaction import mask_path, redact_model
from coreset.settings import ServiceSettings
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_service.app import create_app
from coreset_service.http.limits import network_of
from tests.field.clients import running
from tests.service.conftest import SPEC

ADMIN, _ADMIN = new_key("admin", ["read", "submit"])
Browse = Callable[..., TestClient]


@pytest.fixture
def browse(redis: Redis, storage: Storage) -> Iterator[Browse]:
    """A client of a service with a key."""
    clients: list[TestClient] = []

    def browsing(**settings: object) -> TestClient:
        given = {"storage": storage.root, "api_keys": _ADMIN.line, **settings}
        app = create_app(ServiceSettings.model_validate(given), redis=redis, storage=storage)
        clients.append(TestClient(app, follow_redirects=False))
        return clients[-1]

    yield browsing
    for client in clients:
        client.close()


def log_in(browser: TestClient) -> None:
    assert browser.post("/login", data={"key": ADMIN}).status_code == 303


@pytest.mark.parametrize(
    "address",
    [
        "168.63.129.16",
        "192.0.0.192",
        "64:ff9b:1::1",
        "64:ff9b:1:ffff::8.8.8.8",
        "fec0::1",
        "feff::1",
        "::8.8.8.8",
        "::ffff:0:8.8.8.8",
        "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110",
        "2002:a83f:8110::1",
    ],
)
def test_addresses_of_clouds_and_translators_are_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "168.63.129.17", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_stay_public(address: str) -> None:
    assert is_public(address)


def test_a_forwarded_address_does_not_evade_the_lock_out(redis_url: str, tmp_path: Path) -> None:
    settings = {"CORESET_API_KEYS": _ADMIN.line, "CORESET_RATE_PER_MINUTE": "3"}
    with running(redis_url, tmp_path, **settings) as (port, _, _):
        codes = []
        for number in range(5):
            headers = {"Authorization": f"Bearer {number}", "X-Forwarded-For": f"198.51.100.{number}"}
            codes.append(httpx.get(f"http://127.0.0.1:{port}/v1/jobs", headers=headers).status_code)
        assert codes == [401, 401, 401, 429, 429]


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"


def test_others_guesses_do_not_keep_a_valid_key_out(browse: Browse) -> None:
    browser = browse(rate_per_minute=2)
    assert [browser.post("/login", data={"key": "guess"}).status_code for _ in range(4)] == [401, 401, 429, 429]
    log_in(browser)
    assert browser.get("/v1/jobs").status_code == 200


def test_the_cookie_is_not_the_key_and_ends_with_the_logout(browse: Browse, redis: Redis) -> None:
    browser = browse()
    log_in(browser)
    (token,) = browser.cookies.values()
    assert ADMIN not in token
    stored = b" ".join([*redis.keys("coreset:session:*"), *(redis.mget(redis.keys("coreset:session:*")))])
    assert token.encode() not in stored
    assert ADMIN.encode() not in stored
    assert browser.get("/v1/jobs").status_code == 200
    browser.post("/logout")
    assert browser.get("/v1/jobs", headers={"Cookie": f"coreset_session={token}"}).status_code == 401
    assert browser.get("/v1/jobs", headers={"Cookie": f"coreset_key={ADMIN}"}).status_code == 401


def test_a_session_ends_when_its_key_is_taken_away(browse: Browse) -> None:
    browser = browse()
    log_in(browser)
    (token,) = browser.cookies.values()
    other = browse(api_keys=new_key("other", ["read"])[1].line)
    assert other.get("/v1/jobs", headers={"Cookie": f"coreset_session={token}"}).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic eDp5"])
def test_a_header_without_a_key_does_not_let_the_cookie_act(browse: Browse, header: str) -> None:
    browser = browse()
    log_in(browser)
    headers = {"Authorization": header, "Origin": "https://evil.example"}
    assert browser.post("/v1/jobs", json=SPEC, headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver:9"])
def test_another_site_logs_nobody_in_or_out(browse: Browse, path: str, origin: str) -> None:
    browser = browse()
    log_in(browser)
    assert browser.post(path, data={"key": ADMIN}, headers={"Origin": origin}).status_code == 403
    assert browser.get("/v1/jobs").status_code == 200
    assert browser.post(path, data={"key": ADMIN}, headers={"Origin": "http://testserver"}).status_code == 303


def test_answers_to_a_key_are_not_shown_after_the_logout(browse: Browse, succeeded: str, storage: Storage) -> None:
    storage.write(f"jobs/{succeeded}/summary.json", b"{}")
    browser = browse()
    log_in(browser)
    for path in (f"/v1/jobs/{succeeded}/summary", f"/v1/jobs/{succeeded}", "/v1/jobs", f"/v1/jobs/{succeeded}/result"):
        headers = browser.get(path).headers
        assert headers["Cache-Control"] in ("private, no-cache", "no-store"), path
        assert {"Cookie", "Authorization"} <= {name.strip() for name in headers["Vary"].split(",")}, path
    assert browser.post("/logout").headers["Clear-Site-Data"] == '"cache"'


def test_no_content_type_is_guessed(browse: Browse) -> None:
    for path in ("/healthz", "/login", "/v1/jobs", "/static/page.css", "/nowhere"):
        assert browse().get(path).headers["X-Content-Type-Options"] == "nosniff", path


def test_the_text_of_a_401_says_what_to_send(browse: Browse) -> None:
    detail = browse().get("/v1/jobs").json()["detail"]
    assert "***" not in detail
    assert "`Authorization`" in detail
    assert "Bearer" in detail
    assert Unauthorized(detail).detail == detail


def test_the_path_of_a_webhook_is_not_shown(spec: JobSpec, browse: Browse) -> None:
    assert mask_path("https://hooks.example/services/T0/secret?a=b") == "https://hooks.example/***"
    assert mask_path("https://u:p@hooks.example:8443/x") == "https://hooks.example:8443/***"
    hooked = JobSpec.model_validate({**spec.model_dump(), "webhook": {"url": "https://hooks.example/T0/secret"}})
    assert "secret" not in redact_model(hooked).model_dump_json()
    browser = browse(webhook_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", webhook_private=True)
    browser.headers["Authorization"] = f"Bearer {ADMIN}"
    body = {**SPEC, "webhook": {"url": "https://hooks.example/T0/secret"}}
    job = browser.post("/v1/jobs", json=body)
    assert job.status_code == 202
    assert "secret" not in job.text + browser.get(job.headers["Location"]).text + browser.get("/v1/jobs").text


def test_no_cell_of_a_csv_is_a_formula() -> None:
    with duckdb.connect() as db:
        db.execute(
            "CREATE TABLE t AS SELECT * FROM (VALUES ('=1+1', '@k', '-x', -1.5::FLOAT), ('a=1', 'k', NULL, 2::FLOAT), "
            "('+1', '\t=2', 'a', NULL)) AS t(shard, key, metadata_a, diffin)"
        )
        names = ["shard", "key", "metadata_a", "diffin"]
        csv = b"".join(encode_rows(db, "csv", names, "FROM t", [])).decode()
        lines = csv.splitlines()
        assert lines[1:] == ['"\'=1+1","\'@k","\'-x",-1.5', '"a=1","k",,2', '"\'+1","\'\t=2","a",']
        assert b'"shard":"=1+1"' in b"".join(encode_rows(db, "ndjson", names, "FROM t", []))
