"""POST /v1/jobs?validate_only=true: the plan without the job, by a real worker on a real pool and real checkpoints."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from coreset.queue.task_ids import QUEUES
from coreset.queue.task_queue import TaskQueue
from coreset.settings import ServiceSettings, WorkerSettings
from coreset.storage.storage import Storage
from coreset_service.app import create_app
from coreset_workers.process.lease import LeaseWorker
from coreset_workers.process.runtime import Runtime, install

WHERE = "/v1/jobs?validate_only=true"

Ask = Callable[..., httpx.Response]


class TestWorker(LeaseWorker):
    """A worker that leaves SIGALRM to pytest-timeout."""

    __test__ = False
    death_penalty_class = TimerDeathPenalty


@pytest.fixture
def alive(redis: Redis) -> Iterator[None]:
    """A worker that is alive and takes nothing."""
    worker = TestWorker(QUEUES, redis)
    worker.register_birth()
    yield
    worker.register_death()


@pytest.fixture
def ask(api: TestClient, redis: Redis, storage: Storage, queue: TaskQueue, alive: None) -> Ask:
    """Ask for a check, and let a worker take it."""
    import coreset_workers.tasks  # noqa: F401  # torch takes seconds, and the caller is waiting then

    install(Runtime.build(WorkerSettings(storage=storage.root), redis))

    def asked(spec: dict[str, Any], **headers: str) -> httpx.Response:
        with ThreadPoolExecutor(1) as caller:
            answer = caller.submit(api.post, WHERE, json=spec, headers=headers)
            while not queue.census.waiting_counts()["gpu"] and not answer.done():
                time.sleep(0.01)
            TestWorker(QUEUES, redis).work(burst=True, logging_level=None)
            return answer.result(timeout=60)

    return asked


@pytest.fixture
def spec(tiny_pool: Path, tiny_run: Path) -> dict[str, Any]:
    return {
        "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")]},
        "checkpoints": {"run": str(tiny_run)},
        "reference": {"size": 24},
        "select": {"k": 40},
    }


def left_behind(redis: Redis) -> list[bytes]:
    """Keys of checks, of jobs and of idempotency; the reconciler's turn, which a slow machine sees, is none of them."""
    found = [key for pattern in ("*check-*", "coreset:*") for key in redis.keys(pattern)]
    return [key for key in found if not key.startswith(b"coreset:turn:")]


def test_the_plan_is_told_and_nothing_is_left(
    api: TestClient, ask: Ask, redis: Redis, storage: Storage, spec: dict[str, Any]
) -> None:
    answer = ask(spec, **{"Idempotency-Key": "k"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["shards"]["number"], found["n_samples"]["value"]) == (6, 180)
    assert found["first_shard"]["uri"].endswith("000000.tar")
    first = found["first_shard"]["samples"][0]
    assert first["status"] == "ok"
    assert first["members"]["jpg"] > 500
    assert first["caption"]
    assert first["image_size"][0] > 16
    assert [one["step"]["value"] for one in found["checkpoints"]] == sorted(
        one["step"]["value"] for one in found["checkpoints"]
    )
    assert all(one[name]["source"] for one in found["checkpoints"] for name in ("step", "lr", "lr_sum"))
    assert found["parameters_counted"] == found["parameters_total"] > 10_000
    assert found["memory"]["batch_size"] == 64
    assert found["time"]["score_seconds"] > 0
    assert found["outputs"]["parts_existing"] == 0
    assert found["outputs"]["plan"] == storage.uri(f"plans/{found['plan_id']}")
    assert not storage.exists("plans")
    assert left_behind(redis) == []
    assert api.get("/v1/jobs").json()["jobs"] == []
    again = api.post("/v1/jobs", json=spec, headers={"Idempotency-Key": "k"})
    assert again.status_code == 202, "the key is still free"


@pytest.mark.slow
def test_a_scope_and_parts_that_are_there_are_counted(
    api: TestClient, ask: Ask, storage: Storage, spec: dict[str, Any]
) -> None:
    spec["parameters"] = {"names": ["visual.proj", "text_projection"]}
    plan = ask(spec).json()
    assert plan["parameters"] == ["text_projection", "visual.proj"]
    assert plan["parameters_counted"] == 32 * 16 + 16 * 16
    storage.write(f"plans/{plan['plan_id']}/parts/000003.json", b"{}")
    assert ask(spec).json()["outputs"]["parts_existing"] == 1


def test_what_would_fail_is_refused_by_name(
    api: TestClient, ask: Ask, redis: Redis, spec: dict[str, Any], tmp_path: Path, tiny_pool: Path
) -> None:
    gone = str(tiny_pool / "999999.tar")
    answer = ask({**spec, "pool": {"shards": [spec["pool"]["shards"][0], gone]}})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/shard-unreadable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["shards"] == [f"{gone} (not found)"]

    (tmp_path / "noise.pt").write_bytes(b"noise")
    answer = ask({**spec, "checkpoints": {"files": [str(tmp_path / "noise.pt")]}, "model": {"name": "ViT-B-32"}})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/checkpoint-unusable")
    assert answer.json()["uri"] == str(tmp_path / "noise.pt")

    answer = ask({**spec, "model": {"name": "RN50"}})
    assert (answer.status_code, answer.json()["model"]) == (422, "RN50")
    assert "does not fit the architecture" in answer.json()["detail"]

    answer = ask({**spec, "pool": {**spec["pool"], "caption_field": "nowhere"}})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/pool-unusable")
    assert answer.json()["key"]
    assert "is no_caption" in answer.json()["detail"]
    assert left_behind(redis) == []


def test_a_first_shard_that_the_job_may_lose_is_a_warning(ask: Ask, spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "noise.tar").write_bytes(b"noise" * 1000)
    spec["pool"]["shards"].insert(0, str(tmp_path / "noise.tar"))
    refused = ask(spec)
    assert (refused.status_code, refused.json()["uri"]) == (422, str(tmp_path / "noise.tar"))
    found = ask({**spec, "max_failed_shards": 1}).json()
    assert found["first_shard"]["uri"].endswith("000000.tar")
    assert f"{tmp_path}/noise.tar is not a tar file" in found["warnings"]


def test_a_check_that_breaks_is_our_fault_and_says_nothing_of_why(
    api: TestClient, ask: Ask, redis: Redis, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> object:
        raise KeyError("secret")

    monkeypatch.setattr("coreset_workers.stages.preflight.make_plan", broken)
    answer = ask(spec)
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert "secret" not in answer.text
    assert left_behind(redis) == []


def test_no_worker_is_told_at_once(api: TestClient, redis: Redis, spec: dict[str, Any]) -> None:
    answer = api.post(WHERE, json=spec)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert answer.headers["Retry-After"]
    assert "no worker is alive" in answer.json()["detail"]
    assert left_behind(redis) == []


def test_busy_workers_are_told_and_the_check_waits_once_ahead_of_all_tasks(
    redis: Redis, storage: Storage, alive: None, spec: dict[str, Any], queue: TaskQueue
) -> None:
    queue.enqueue_prepare("job1")
    settings = ServiceSettings(storage=storage.root, check_seconds=0)
    with TestClient(create_app(settings, redis=redis, storage=storage)) as api:
        for _ in range(2):
            answer = api.post(WHERE, json=spec)
            assert answer.status_code == 503
            assert answer.json()["check"] == "waiting"
            assert "repeat the request to wait for it" in answer.json()["detail"]
            assert answer.headers["Retry-After"]
    waiting = Queue("gpu", connection=redis, serializer=JSONSerializer).job_ids
    assert [task.split("-")[0] for task in waiting] == ["check", "job1"]
    assert 0 < redis.ttl(f"rq:job:{waiting[0]}") <= 600


def test_a_spec_that_does_not_validate_needs_no_worker(api: TestClient, spec: dict[str, Any]) -> None:
    answer = api.post(WHERE, json={**spec, "typo": 1})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-spec")
