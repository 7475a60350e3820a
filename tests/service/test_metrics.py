"""/metrics, read as Prometheus reads it."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from coreset.local.redis_server import EmbeddedRedis
from coreset.queue.job_store import JobStore
from coreset.redis.connection import connect
from coreset.redis.counters import Counters
from coreset.schemas.job import JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus
from coreset.settings import ServiceSettings
from coreset.storage.storage import Storage
from coreset_service.app import create_app
from coreset_workers.process.activity import DOING

SPEC = {"pool": {"shards": ["/pool/0.tar"]}, "checkpoints": {"run": "/logs/demo"}, "select": {"k": 1}}

Scrape = Callable[[], Callable[..., float | None]]


def scraped(api: TestClient) -> Callable[..., float | None]:
    """Return a function that looks a sample up, by its full name and all its labels."""
    answer = api.get("/metrics")
    assert answer.status_code == 200
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    return lambda name, **labels: samples.get((name, frozenset(labels.items())))


def test_requests_are_counted_by_route_and_status(api: TestClient) -> None:
    for job_id in ("nosuchjob1", "nosuchjob2"):
        api.get(f"/v1/jobs/{job_id}")
    api.post("/v1/jobs", json={})
    api.get("/no/such/address")
    api.request("PURGE", "/no/such/address")
    api.request("PURGE", "/v1/jobs")
    value = scraped(api)
    assert value("coreset_http_requests_total", method="GET", route="/v1/jobs/{job_id}", status="404") == 2
    assert value("coreset_http_requests_total", method="POST", route="/v1/jobs", status="422") == 1
    assert value("coreset_http_requests_total", method="GET", route="none", status="404") == 1
    assert value("coreset_http_requests_total", method="other", route="none", status="404") == 1
    assert value("coreset_http_requests_total", method="other", route="/v1/jobs", status="405") == 1
    assert value("coreset_http_request_seconds_count", method="GET", route="/v1/jobs/{job_id}") == 2


def test_jobs_and_tasks_are_shown_by_state(api: TestClient, store: JobStore) -> None:
    ids = [api.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(3)]
    store.transition(ids[0], JobStatus.PREPARING)
    store.transition(ids[1], JobStatus.FAILED)
    value = scraped(api)
    assert value("coreset_redis_up") == 1
    assert value("coreset_jobs", status="queued") == 1
    assert value("coreset_jobs", status="preparing") == 1
    assert value("coreset_jobs_ended_total", status="failed") == 1
    assert value("coreset_jobs_ended_total", status="succeeded") == 0
    assert value("coreset_tasks", queue="gpu", state="waiting") == 3
    assert value("coreset_tasks", queue="gpu", state="running") == 0
    assert value("coreset_workers", state="busy") == 0


def test_counters_are_there_before_they_count(api: TestClient) -> None:
    """Prometheus sees no increase in a series that begins at 1, and an alert would miss the first failure."""
    value = scraped(api)
    for task in ("check", "prepare", "score", "merge", "finish", "trial", "conclude"):
        assert value("coreset_task_failures_total", task=task) == value("coreset_task_attempts_total", task=task) == 0
    for status in SampleStatus:
        assert value("coreset_samples_total", status=status) == 0
    for doing in DOING:
        assert value("coreset_worker_seconds_total", doing=doing) == 0


def test_a_shard_is_counted_once_and_a_resumed_one_scores_no_samples(api: TestClient, store: JobStore) -> None:
    job = api.post("/v1/jobs", json=SPEC).json()["id"]
    for _ in range(2):
        store.shards.finish(job, summary(0, scored=90, bad={"bad_image": 4, "no_image": 6}))
    store.shards.finish(job, summary(1, scored=50, bad={"bad_image": 1}), resumed=True)
    for _ in range(2):
        store.shards.fail(job, 2, "/pool/2.tar", "gone")
    value = scraped(api)
    for outcome in ("scored", "resumed", "failed"):
        assert value("coreset_shards_total", outcome=outcome) == 1
    assert value("coreset_samples_total", status="ok") == 90
    assert value("coreset_samples_total", status="bad_image") == 4
    assert value("coreset_samples_total", status="no_image") == 6


def test_a_workers_gpu_is_shown_as_long_as_it_lives(api: TestClient, redis: Redis) -> None:
    redis.sadd("rq:workers", "rq:worker:w1")
    redis.hset("rq:worker:w1", mapping={"state": "busy"})
    totals = Counters(redis)
    totals.save_report("w1", 60, {"gpu": "H100", "gpu_memory": {"total": 80e9, "used": 3e9}})
    totals.save_report("w2", 60, {"gpu": "H100", "gpu_memory": {"total": 80e9, "used": 3e9}})
    value = scraped(api)
    assert value("coreset_gpu_memory_bytes", worker="w1", gpu="H100", kind="used") == 3e9
    assert value("coreset_gpu_memory_bytes", worker="w2", gpu="H100", kind="used") is None
    assert value("coreset_workers", state="busy") == 1


def test_without_redis_metrics_still_answer_and_say_so(
    storage: Storage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with EmbeddedRedis(tmp_path_factory.mktemp("gone")) as server:
        redis = connect(server.url, patience=0)
        app = create_app(ServiceSettings(storage=storage.root, reconcile_seconds=0), redis=redis, storage=storage)
        with TestClient(app) as api:
            server.stop()
            api.get("/healthz")
            value = scraped(api)
    redis.close()
    assert value("coreset_redis_up") == 0
    assert value("coreset_jobs", status="queued") is None
    assert value("coreset_http_requests_total", method="GET", route="/healthz", status="200") == 1


def summary(shard: int, scored: int, bad: dict[str, int]) -> ShardSummary:
    return ShardSummary.model_validate(
        {
            "shard": shard,
            "uri": f"/pool/{shard}.tar",
            "part": {"uri": "/part", "size": 1, "sha256": "0"},
            "read": scored + sum(bad.values()),
            "scored": scored,
            "bad": bad,
            "expected": None,
            "damage": None,
            "seconds": 1.0,
            "device": "cpu",
        }
    )
