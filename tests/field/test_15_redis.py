"""Point 15: a Redis that is full, read-only or asks for a password is a 503 with its cause, by a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.errors import Unavailable
from coreset.local.redis_server import EmbeddedRedis
from coreset.queue.job_store import JobStore
from coreset.redis.connection import connect
from coreset.settings import ServiceSettings
from coreset_service import shared_check
from coreset_service.app import create_app
from tests.service.conftest import SPEC

UNWILLING = [
    ({"maxmemory": "1"}, "oom", "full"),
    ({"min-replicas-to-write": "1"}, "noreplicas", "too few replicas"),
]


@pytest.fixture
def configured(redis: Redis) -> Iterator[Any]:
    """The session's server, whose configuration is brought back after the test."""
    server: Any = redis
    before = {name: server.config_get(name)[name] for name in ("maxmemory", "min-replicas-to-write")}
    yield server
    server.replicaof("NO", "ONE")
    for name, value in before.items():
        server.config_set(name, value)


def require_503(api: TestClient, cause: str, words: str) -> None:
    for answer in (api.get("/readyz"), api.post("/v1/jobs", json=SPEC)):
        problem = answer.json()
        assert (answer.status_code, problem["type"], problem["cause"]) == (503, "/problems/unavailable", cause)
        assert words in problem["detail"]
        assert answer.headers["Retry-After"]
    assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize(("settings", "cause", "words"), UNWILLING)
def test_a_redis_that_takes_no_writes(
    api: TestClient, configured: Any, settings: dict[str, str], cause: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_check, "SECONDS", 0.0)  # for which a success counts
    assert api.get("/readyz").status_code == 200
    for name, value in settings.items():
        configured.config_set(name, value)
    require_503(api, cause, words)


def test_a_read_only_replica(api: TestClient, configured: Any) -> None:
    configured.replicaof("127.0.0.1", 1)  # nothing listens there: it stays a replica without a primary
    require_503(api, "readonly", "read-only replica")


@pytest.mark.parametrize(("password", "cause"), [("", "noauth"), (":wrong@", "wrongpass")])
def test_a_wrong_password_says_so(redis_server: EmbeddedRedis, password: str, cause: str) -> None:
    with connect(f"redis://{password}127.0.0.1:{redis_server.port}/0", patience=0) as client:
        with pytest.raises(Unavailable, match="CORESET_REDIS_URL") as refused:
            JobStore(client).probe()
        assert refused.value.data == {"cause": cause}
        with TestClient(create_app(ServiceSettings(reconcile_seconds=0), redis=client)) as api:
            assert api.get("/readyz").json()["cause"] == cause
