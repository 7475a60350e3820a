"""GET /v1/jobs/{id}/events over a real socket: live, resumable, and at an end when the job is."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from coreset.local.redis_server import EmbeddedRedis
from coreset.queue.job_store import JobStore
from coreset.redis.connection import connect
from coreset.schemas.job import JobStatus, Reason
from coreset.spec.job import JobSpec
from coreset_service.routes import events

StreamedEvent = dict[str, Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(events, "PROGRESS_SECONDS", 0.1)


@pytest.fixture
def job(store: JobStore, spec: JobSpec) -> str:
    return store.create(spec, "job1").id


def reported(answer: httpx.Response) -> Iterator[StreamedEvent]:
    """The blocks of the stream, comments and hints too."""
    block: StreamedEvent = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(":")
            block[name or "comment"] = value.strip()
        elif block:
            yield block
            block = {}


def test_a_job_is_followed_to_its_end(url: str, job: str, store: JobStore) -> None:
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        blocks = reported(answer)
        assert next(blocks) == {"retry": "2000"}
        first, progress = next(blocks), next(blocks)
        assert (first["event"], json.loads(first["data"])["status"]) == ("status", "queued")
        assert progress["event"] == "progress"
        assert "id" not in progress
        store.transition(job, JobStatus.PREPARING)
        assert json.loads(next(blocks)["data"])["status"] == "preparing"
        store.set_stage(job, "reading checkpoints", 0.5)
        staged = next(block for block in blocks if "reading" in block["data"])
        assert 0 < json.loads(staged["data"])["progress"]["fraction"] < 1
        store.shards.fail(job, 2, "a.tar", "a.tar is not a tar file")
        store.transition(job, JobStatus.FAILED, Reason(code="shard-unreadable", message="a.tar"))
        rest = list(blocks)
    assert [block["event"] for block in rest if block["event"] != "progress"] == ["shard_failed", "ended"]
    assert [block["event"] for block in rest[-2:]] == ["progress", "ended"]
    assert json.loads(rest[-1]["data"])["reason"]["code"] == "shard-unreadable"


def test_a_lost_connection_goes_on_after_the_last_id(url: str, job: str, store: JobStore) -> None:
    store.transition(job, JobStatus.PREPARING)
    where = f"{url}/v1/jobs/{job}/events"
    with httpx.stream("GET", where, timeout=20) as answer:
        last = next(block["id"] for block in reported(answer) if "preparing" in block.get("data", ""))
    store.transition(job, JobStatus.FAILED)
    with httpx.stream("GET", where, headers={"Last-Event-ID": last}, timeout=20) as answer:
        rest = [block for block in reported(answer) if "event" in block]
    assert [block["event"] for block in rest] == ["progress", "ended"]
    done = httpx.get(where, headers={"Last-Event-ID": rest[-1]["id"]})
    assert (done.status_code, done.content) == (204, b"")
    assert len([block for block in reported(httpx.get(where)) if "id" in block]) == 3


def test_progress_is_told_when_it_changes_and_a_comment_when_nothing_does(
    url: str, job: str, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(events, "PROGRESS_SECONDS", 0.5)
    stop = threading.Event()

    def work() -> None:
        store.transition(job, JobStatus.PREPARING)
        step = 0
        while not stop.wait(0.01):
            step += 1
            store.set_stage(job, "tracing", min(1.0, step / 1000))

    worker = threading.Thread(target=work)
    worker.start()
    start, seen = time.monotonic(), 0
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=20) as answer:
        blocks = reported(answer)
        while seen < 4:
            seen += next(blocks).get("event") == "progress"
        assert time.monotonic() - start >= 3 * 0.5
        stop.set()
        worker.join()
        assert next(block for block in blocks if "comment" in block) == {"comment": "nothing new"}


def test_a_job_that_is_cancelled_ends_while_somebody_listens(url: str, job: str, store: JobStore) -> None:
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=20) as answer:
        blocks = reported(answer)
        next(blocks)
        store.request_cancel(job)
        statuses = [json.loads(block["data"])["status"] for block in blocks if block["event"] in ("status", "ended")]
    assert statuses == ["queued", "cancelling", "cancelled"]


def test_a_job_that_is_gone_ends_the_stream(url: str, job: str, redis: Redis) -> None:
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=20) as answer:
        blocks = reported(answer)
        assert next(block for block in blocks if block.get("event") == "progress")
        redis.delete(f"coreset:job:{job}")  # as by a Redis that has lost everything
        assert list(blocks) == []
    assert httpx.get(f"{url}/v1/jobs/{job}/events").status_code == 404


def test_a_restart_of_redis_is_ridden_out(
    serve: Callable[[Redis], AbstractContextManager[str]],
    spec: JobSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
    server = EmbeddedRedis(tmp_path / "redis").start()
    redis = connect(server.url, patience=0)
    store = JobStore(redis)
    job = store.create(spec, "job1").id
    with serve(redis) as url, httpx.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=20) as answer:
        blocks = reported(answer)
        assert next(block for block in blocks if block.get("event") == "progress")
        server.stop()
        assert next(block for block in blocks if "comment" in block)
        server.start()
        store.transition(job, JobStatus.FAILED)
        assert [block["event"] for block in blocks if "event" in block] == ["progress", "ended"]
    redis.close()
    server.stop()


@pytest.mark.parametrize("bad", ["x", "1", "-1-0", "1-0-0", "9" * 30 + "-0"])
def test_an_id_that_is_none_is_refused(url: str, job: str, bad: str) -> None:
    answer = httpx.get(f"{url}/v1/jobs/{job}/events", headers={"Last-Event-ID": bad})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-input")
