"""Point 12, the service's part: what is large or endless costs its sender, not others."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from coreset.errors import StoredSpecsFull
from coreset.local import stack
from coreset.local.log_files import rotate
from coreset.queue import job_listing
from coreset.queue.job_store import LEAST_SPEC_BYTES, Caller, JobStore
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec
from coreset_service.http.middleware import REFUSALS_PER_SECOND, Sample
from coreset_service.routes import reference
from coreset_service.webhooks.outbox import Outbox
from coreset_service.webhooks.sender import OF_ONE_RECEIVER, WebhookSender
from tests.service.webhooks.test_webhooks import SECRET, Receiver, ended


def test_a_page_of_large_jobs_is_short(
    store: JobStore, spec: JobSpec, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = JobSpec.model_validate({**spec.model_dump(), "pool": {"shards": [f"/p/{n:0>90}.tar" for n in range(1000)]}})
    for number in range(8):
        store.create(long if number % 2 else spec, f"j{number}")
    monkeypatch.setattr(job_listing, "PAGE_BYTES", 250_000)
    seen, token, pages = [], None, 0
    while token or not pages:
        page = store.listing.page(100, token)
        assert sum(len(job.spec.model_dump_json()) for job in page.jobs) <= 250_000
        seen, token, pages = seen + [job.id for job in page.jobs], page.next_page_token, pages + 1
    assert seen == [f"j{number}" for number in reversed(range(8))]
    assert pages > 1


def test_a_filtered_list_reads_no_other_job(store: JobStore, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        store.create(spec, f"j{number}")
    store.transition("j2", JobStatus.FAILED)
    read: list[str] = []
    jobs = store.listing.read
    monkeypatch.setattr(store.listing, "read", lambda ids: (read.extend(ids), jobs(ids))[1])
    assert [job.id for job in store.listing.page(20, status=JobStatus.FAILED).jobs] == ["j2"]
    assert read == ["j2"]


def test_specs_of_ended_jobs_count_until_they_are_deleted(store: JobStore, spec: JobSpec, redis: Redis) -> None:
    long = JobSpec.model_validate({**spec.model_dump(), "pool": {"shards": [f"/p/{n:0>90}.tar" for n in range(1000)]}})
    size = len(long.model_dump_json())
    caller = Caller("curation", max_open_jobs=100, max_spec_bytes=2 * size + LEAST_SPEC_BYTES)
    for number in range(2):
        store.create(long, f"j{number}", caller=caller)
        store.transition(f"j{number}", JobStatus.FAILED)
    with pytest.raises(StoredSpecsFull, match="ttl_seconds_after_finished") as refused:
        store.create(long, "j2", caller=caller)
    assert (refused.value.status, refused.value.type) == (429, "stored-specs-full")
    store.create(spec, "j3", idempotency_key="once", caller=caller)  # a short one counts for 4 KiB
    assert redis.hget("coreset:spec_bytes", "curation") == str(2 * size + LEAST_SPEC_BYTES).encode()
    assert store.create(spec, "j4", idempotency_key="once", caller=caller).id == "j3", "it is no new one"
    with pytest.raises(StoredSpecsFull):
        store.create(spec, "j4", caller=caller)
    store.create(spec, "j5", caller=Caller("another", 100, LEAST_SPEC_BYTES))
    store.delete("j0")
    store.create(spec, "j4", caller=caller)
    for job_id in ("j1", "j3", "j4", "j5"):
        if job_id != "j1":
            store.transition(job_id, JobStatus.FAILED)
        store.delete(job_id)
    assert redis.hgetall("coreset:spec_bytes") == {}


def test_a_log_is_bounded_and_its_last_lines_are_kept(tmp_path: Path) -> None:
    """The writer keeps its file open, as a child process does."""
    log = tmp_path / "worker-0.log"
    older = log.with_name("worker-0.log.1")
    with log.open("ab", buffering=0) as output:
        for number in range(1000):
            output.write(b"%6d %s\n" % (number, b"x" * 92))
            rotate(log, limit=10_000)
            assert log.stat().st_size <= 10_000
    assert older.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-0.log", "worker-0.log.1"]
    kept = [int(line.split()[0]) for line in (older.read_text() + log.read_text()).splitlines()]
    assert kept == list(range(kept[0], 1000)), "no line between the oldest kept and the last is missing"
    assert 100 < len(kept) <= 202


def test_a_stack_rotates_the_logs_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotated: set[str] = set()
    monkeypatch.setattr(stack, "rotate", lambda log: rotated.add(log.name))
    with stack.LocalStack(tmp_path, os.environ, port=0, workers=0):
        deadline = time.monotonic() + 60
        while not rotated >= {"service.log", "redis.log"}:  # other stacks of this session rotate theirs
            assert time.monotonic() < deadline, rotated
            time.sleep(0.05)


def test_a_long_path_is_cut_in_the_log(api: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert api.get(f"/{'x' * 60_000}").status_code == 404
    lines = [record.getMessage() for record in caplog.records if "x" * 100 in record.getMessage()]
    assert lines
    assert all(len(line) < 1000 and "60001 characters" in line for line in lines if "path" in line)


def test_refusals_are_sampled_and_counted() -> None:
    clock = iter([0.0] * 1000 + [1.0])
    sample = Sample(REFUSALS_PER_SECOND, now=lambda: next(clock))
    passed = [sample.left_out() for _ in range(1000)]
    assert passed.count(0) == REFUSALS_PER_SECOND
    assert sample.left_out() == 1000 - REFUSALS_PER_SECOND


def test_the_apis_page_is_rendered_once(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[object] = []
    render = reference.render
    monkeypatch.setattr(reference, "render", lambda *given: (rendered.append(given), render(*given))[1])
    first = api.get("/docs")
    assert [api.get("/docs").text == first.text for _ in range(3)] == [True] * 3
    assert first.headers["Content-Security-Policy"] == api.get("/docs").headers["Content-Security-Policy"]
    assert len(rendered) == 1


@contextmanager
def dripping() -> Iterator[tuple[str, list[int]]]:
    """A receiver that begins an answer and never ends it; gives its address and the open tries after each beginning."""
    stop, lock = threading.Event(), threading.Lock()
    now, most = [0], [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            while not stop.wait(0.05):
                try:
                    self.wfile.write(b"H")
                except OSError:
                    break
            with lock:
                now[0] -= 1

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", most
        stop.set()
        server.shutdown()


def test_receivers_that_drip_do_not_delay_anothers_message(
    store: JobStore, spec: JobSpec, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(redis)
    sender = WebhookSender(outbox, SECRET, private=True)
    removed, receiver = threading.Event(), Receiver(204)
    with dripping() as (slow, most), receiver.listening() as url:
        for number in range(24):
            ended(store, spec, f"{slow}{number}", f"slow{number}")
        ended(store, spec, url, "quick")
        remove = outbox.remove
        monkeypatch.setattr(outbox, "remove", lambda job_id: (remove(job_id), removed.set()))
        sender.start()
        assert removed.wait(12), "before a single slow try was given up"
        sender.stop()
        assert len(receiver.heard) == 1
        assert 0 < most[0] <= OF_ONE_RECEIVER
    assert outbox.waiting() == 24
