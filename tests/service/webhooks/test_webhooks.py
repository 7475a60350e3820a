"""Webhooks of a job's end: signed, repeated until the receiver answers, never sent to a private host."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from redis import Redis
from standardwebhooks import Webhook

from coreset.queue.job_store import JobStore
from coreset.schemas.job import JobStatus, Reason
from coreset.settings import ServiceSettings
from coreset.spec.job import JobSpec
from coreset_service.app import create_app
from coreset_service.webhooks import sender as webhook_sender
from coreset_service.webhooks.outbox import Outbox
from coreset_service.webhooks.sender import PAUSES, WebhookSender

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REASON = Reason(code="shard-unreadable", message="a.tar: not a tar")


class Receiver:
    """An HTTP server that answers with these statuses, the last one for ever, and keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.heard: list[tuple[dict[str, str], bytes]] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.heard.append((dict(self.headers), body))
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/hook?team=a"
            server.shutdown()


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis)


@pytest.fixture
def sender(outbox: Outbox) -> WebhookSender:
    return WebhookSender(outbox, SECRET, private=True)


def ended(store: JobStore, spec: JobSpec, url: str, job_id: str = "j1", **webhook: Any) -> None:
    hooked = JobSpec.model_validate({**spec.model_dump(), "webhook": {"url": url, **webhook}})
    store.create(hooked, job_id)
    store.transition(job_id, JobStatus.FAILED, REASON)


def due_now(redis: Redis) -> float:
    """Let the next try be due. Returns the seconds it would have waited."""
    ((member, due),) = redis.zrange("coreset:deliveries", 0, -1, withscores=True)
    redis.zadd("coreset:deliveries", {member: 0})
    return due - time.time()


def test_the_end_is_told_once_and_signed(store: JobStore, spec: JobSpec, sender: WebhookSender, outbox: Outbox) -> None:
    receiver = Receiver(204)
    with receiver.listening() as url:
        ended(store, spec, url)
        assert outbox.waiting() == 1
        assert sender.send_due() == 1
        assert sender.send_due() == 0
    ((headers, body),) = receiver.heard
    reported = Webhook(SECRET).verify(body, headers)
    assert reported == json.loads(body)
    assert (reported["type"], reported["data"]["id"], reported["data"]["status"]) == ("job.failed", "j1", "failed")
    assert reported["data"]["reason"]["code"] == "shard-unreadable"
    assert headers["webhook-id"] == "msg_j1"
    assert headers["Host"] == url.split("/")[2]
    assert outbox.waiting() == 0


def test_only_the_ends_that_were_asked_for_are_told(store: JobStore, spec: JobSpec, outbox: Outbox) -> None:
    ended(store, spec, "http://127.0.0.1/", events=["job.succeeded", "job.cancelled"])
    store.create(spec, "plain")
    store.transition("plain", JobStatus.FAILED)
    assert outbox.waiting() == 0


@pytest.mark.parametrize("refusal", [500, 404, 302, None])
def test_a_refusal_is_tried_again_with_the_same_message(
    store: JobStore, spec: JobSpec, sender: WebhookSender, redis: Redis, refusal: int | None
) -> None:
    receiver = Receiver(*([refusal] if refusal else []), 200)
    with receiver.listening() as url:
        ended(store, spec, url if refusal else "http://127.0.0.1:1/")
        assert sender.send_due() == 0
        assert 0.8 * PAUSES[0] < due_now(redis) <= PAUSES[0]
        redis.hset("coreset:delivery:j1", "url", url)
        assert sender.send_due() == 1
    bodies = {body for _, body in receiver.heard}
    assert (len(bodies), {headers["webhook-id"] for headers, _ in receiver.heard}) == (1, {"msg_j1"})


def test_it_is_given_up_after_a_day_or_when_the_receiver_is_gone(
    store: JobStore, spec: JobSpec, sender: WebhookSender, redis: Redis, outbox: Outbox
) -> None:
    waited = []
    with Receiver(503).listening() as url:
        ended(store, spec, url)
        for _ in PAUSES:
            assert sender.send_due() == 0
            waited.append(due_now(redis))
        assert sender.send_due() == 0
        assert outbox.waiting() == 0
    assert waited[0] < 6
    assert 20 * 3600 < sum(waited) <= 24 * 3600
    gone = Receiver(410)
    with gone.listening() as url:
        ended(store, spec, url, "j2")
        sender.send_due()
    assert (len(gone.heard), outbox.waiting(), redis.keys("coreset:delivery:*")) == (1, 0, [])


def test_a_sender_that_dies_loses_nothing_and_two_do_not_send_twice(
    store: JobStore, spec: JobSpec, sender: WebhookSender, outbox: Outbox, redis: Redis
) -> None:
    receiver = Receiver(200)
    with receiver.listening() as url:
        ended(store, spec, url)
        assert outbox.take(lease_seconds=60) is not None  # and dies
        assert sender.send_due() == 0, "another one has it"
        store.delete("j1")
        due_now(redis)
        assert sender.send_due() == 1, "the lease ran out; the job need not be there any more"
    assert json.loads(receiver.heard[0][1])["data"]["id"] == "j1"


def test_a_receiver_that_drips_is_cut_off(
    store: JobStore, spec: JobSpec, sender: WebhookSender, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "TIMEOUT_SECONDS", 0.3)
    stop = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            while not stop.wait(0.05):
                self.wfile.write(b"H")

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ended(store, spec, f"http://127.0.0.1:{server.server_port}/")
        start = time.monotonic()
        assert sender.send_due() == 0
        assert time.monotonic() - start < 5
        stop.set()
        server.shutdown()
    assert due_now(redis) > 0


def test_a_private_address_is_never_connected_to(store: JobStore, spec: JobSpec, outbox: Outbox, redis: Redis) -> None:
    receiver = Receiver(200)
    with receiver.listening() as url:
        ended(store, spec, url.replace("127.0.0.1", "localhost"))
        assert WebhookSender(outbox, SECRET, private=False).send_due() == 0
    assert receiver.heard == []
    assert due_now(redis) > 0, "kept: the name may have changed for a while"


def service(redis: Redis, tmp_path: Path, **settings: Any) -> TestClient:
    return TestClient(create_app(ServiceSettings(storage=str(tmp_path), **settings), redis=redis))


def test_the_service_tells_a_cancelled_job(redis: Redis, tmp_path: Path, spec: JobSpec) -> None:
    receiver = Receiver(200)
    with receiver.listening() as url, service(redis, tmp_path, webhook_secret=SECRET, webhook_private=True) as api:
        body = {**spec.model_dump(mode="json"), "webhook": {"url": url}}
        job = api.post("/v1/jobs", json=body).json()["id"]
        api.post(f"/v1/jobs/{job}/cancel")
        deadline = time.monotonic() + 10
        while not receiver.heard and time.monotonic() < deadline:
            time.sleep(0.02)
    assert json.loads(receiver.heard[0][1])["type"] == "job.cancelled"


@pytest.mark.parametrize(
    ("webhook", "slug"),
    [
        ({"url": "http://127.0.0.1/"}, "address-forbidden"),
        ({"url": "http://[::ffff:169.254.169.254]/latest"}, "address-forbidden"),
        ({"url": "https://no-such-host.invalid/"}, "invalid-spec"),
        ({"url": "https://example.org:99999/"}, "invalid-spec"),
        ({"url": "ftp://example.org/"}, "invalid-spec"),
        ({"url": "https://user:pass@example.org/"}, "invalid-spec"),
        ({"url": "https://example.org/", "events": []}, "invalid-spec"),
        ({"url": "https://example.org/", "events": ["job.started"]}, "invalid-spec"),
    ],
)
def test_a_webhook_that_cannot_be_told_is_refused_at_the_door(
    redis: Redis, tmp_path: Path, spec: JobSpec, webhook: dict[str, Any], slug: str
) -> None:
    body = {**spec.model_dump(mode="json"), "webhook": webhook}
    with service(redis, tmp_path, webhook_secret=SECRET) as api:
        for query in ("", "?validate_only=true"):
            answer = api.post(f"/v1/jobs{query}", json=body)
            assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{slug}"), answer.text
    with service(redis, tmp_path) as api:
        answer = api.post("/v1/jobs", json={**body, "webhook": {"url": "https://example.org/"}})
        assert (answer.status_code, "CORESET_WEBHOOK_SECRET" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("secret", ["", "abc", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_")])
def test_a_weak_secret_is_no_setting(secret: str) -> None:
    with pytest.raises(ValidationError, match="openssl"):
        ServiceSettings(webhook_secret=secret)  # pyright: ignore[reportArgumentType]
