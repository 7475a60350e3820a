"""The client against canned answers: retries, typed errors, waiting."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset import errors
from coreset.client import Client, validate_spec
from coreset.client.scores import from_parts
from coreset.queue.job_store import JobStore, fingerprint, new_job_id
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import File
from coreset.schemas.sample import Order
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset_service.api_docs.examples import PREFLIGHT, SAMPLES, SELECTIONS

SPEC = {"pool": {"shards": ["/a.tar"]}, "checkpoints": {"run": "/r"}, "select": {"k": 1}}
Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, patience: float = 5.0) -> Client:
    return Client("http://service", api_key="secret", patience=patience, transport=httpx.MockTransport(handler))


def job_json(store: JobStore, spec: JobSpec, status: JobStatus | None = None) -> str:
    job = store.create(spec, new_job_id())
    return (store.transition(job.id, status) if status else job).model_dump_json()


def test_submit_sends_the_key_again_after_a_lost_connection(store: JobStore, spec: JobSpec) -> None:
    seen: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["Idempotency-Key"], request.headers["Authorization"]))
        if len(seen) == 1:
            raise httpx.ReadError("lost")
        return httpx.Response(503) if len(seen) == 2 else httpx.Response(202, text=job_json(store, spec))

    assert client(handler).submit(SPEC).status is JobStatus.QUEUED
    assert len(seen) == 3
    assert set(seen) == {(seen[0][0], "Bearer secret")}


@pytest.mark.parametrize(
    ("slug", "status", "kind"),
    [
        ("invalid-spec", 422, errors.InvalidSpec),
        ("not-found", 404, errors.NotFound),
        ("conflict", 409, errors.Conflict),
        ("shard-unreadable", 422, errors.ShardUnreadable),
        ("internal-error", 500, errors.CoresetError),
        ("of-a-later-version", 422, errors.InvalidInput),
    ],
)
def test_problems_become_typed_errors(slug: str, status: int, kind: type[errors.CoresetError]) -> None:
    problem = {
        "type": f"/problems/{slug}",
        "title": "t",
        "status": status,
        "detail": "what",
        "request_id": "r",
        "id": 1,
    }
    with pytest.raises(kind) as raised:
        client(lambda _: httpx.Response(status, json=problem)).get("x")
    assert type(raised.value) is kind
    assert raised.value.detail == "what"
    assert raised.value.data == {"request_id": "r", "id": 1}


def test_fields_of_a_later_service_are_ignored(store: JobStore, spec: JobSpec) -> None:
    later = json.loads(job_json(store, spec))
    later |= {"mood": "good"}
    later["spec"]["haste"] = 3
    later["progress"]["shards"]["lost"] = 0
    assert client(lambda _: httpx.Response(200, json=later)).get("x").id == later["id"]


def test_what_cannot_be_reached_is_unavailable() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(errors.Unavailable, match="coreset up"):
        client(handler, patience=0).get("x")
    with pytest.raises(errors.Unavailable, match="is this the URL of a coreset service"):
        client(lambda _: httpx.Response(404, text="<h1>nginx</h1>")).get("x")
    with pytest.raises(errors.InvalidInput, match="http://HOST:PORT"):
        Client("localhost:8000").get("x")


def test_a_check_that_runs_is_waited_for_and_one_that_nobody_takes_is_told() -> None:
    def busy(word: str) -> httpx.Response:
        return httpx.Response(503, json={"type": "/problems/unavailable", "title": "t", "detail": word, "check": word})

    asked: list[str] = []
    answers = [busy("running"), busy("running"), httpx.Response(200, json=PREFLIGHT)]

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return answers.pop(0)

    assert client(handler, patience=0).check(SPEC).parameters_counted == PREFLIGHT["parameters_counted"]
    assert asked == ["http://service/v1/jobs?validate_only=true"] * 3
    with pytest.raises(errors.Unavailable, match="waiting"):
        client(lambda _: busy("waiting"), patience=0).check(SPEC)


def test_wait_follows_changes_by_etag(store: JobStore, spec: JobSpec) -> None:
    job_id = store.create(spec, new_job_id()).id
    answers: list[httpx.Response] = []
    for number, to in enumerate((JobStatus.PREPARING, None, JobStatus.FAILED)):
        if to is None:
            answers.append(httpx.Response(304))
        else:
            body = store.transition(job_id, to).model_dump_json()
            answers.append(httpx.Response(200, text=body, headers={"ETag": f'W/"{number}"'}))
    known: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        known.append(request.headers["If-None-Match"])
        return answers.pop(0)

    seen: list[Job] = []
    assert client(handler).wait(job_id, progress=seen.append).status is JobStatus.FAILED
    assert [job.status for job in seen] == [JobStatus.PREPARING, JobStatus.FAILED]
    assert known == ["", 'W/"0"', 'W/"0"']


def test_wait_gives_up_at_its_timeout(store: JobStore, spec: JobSpec) -> None:
    body = job_json(store, spec)
    with pytest.raises(errors.Unavailable, match="it continues"):
        client(lambda _: httpx.Response(200, text=body)).wait("x", timeout=0.2)


def test_jobs_follows_the_pages(store: JobStore, spec: JobSpec) -> None:
    pages = {
        None: {"jobs": [json.loads(job_json(store, spec))], "next_page_token": "two"},
        "two": {"jobs": [json.loads(job_json(store, spec))], "next_page_token": None},
    }
    answers = client(lambda request: httpx.Response(200, json=pages[request.url.params.get("page_token")]))
    assert len(list(answers.jobs())) == 2


def test_selections_and_samples_follow_the_pages_as_they_were_asked_for() -> None:
    asked: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        body = SELECTIONS if request.url.path.endswith("/selections") else SAMPLES
        more = None if "page_token" in request.url.params else "two"
        return httpx.Response(200, json={**body, "next_page_token": more})

    real = client(handler)
    assert len(list(real.selections("x"))) == 2
    assert asked == [{"page_size": "100"}, {"page_size": "100", "page_token": "two"}]
    asked.clear()
    assert len(list(real.samples("x", Order(by=Score.CLIP_SCORE, ascending=True)))) == 2
    order = {"by": "clip_score", "ascending": "true", "page_size": "100"}
    assert asked == [order, {**order, "page_token": "two"}]
    asked.clear()
    next(real.samples("x", {"status": "bad_image"}))
    assert asked == [{"status": "bad_image", "page_size": "100"}], "no further page than is wanted"


@pytest.mark.parametrize("further", [{}, {"seed": 0, "clusters": None}, {"reference": {"size": 256}}])
def test_only_what_was_set_is_sent_and_it_is_the_same_spec(further: dict[str, Any]) -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(422, json={"type": "/problems/invalid-spec", "title": "t", "detail": "d"})

    spec = JobSpec.model_validate({**SPEC, **further})
    with pytest.raises(errors.InvalidSpec):
        client(handler).submit(spec)
    assert sent == [{**SPEC, **further}]
    assert fingerprint(JobSpec.model_validate(sent[0])) == fingerprint(spec)


def test_a_spec_is_checked_on_this_side() -> None:
    with pytest.raises(
        errors.InvalidSpec, match=r"select: a selection has exactly one of `k`, `fraction` and `threshold`"
    ) as raised:
        validate_spec({**SPEC, "select": {}})
    assert raised.value.data["errors"][0]["field"] == "select"


def test_a_pause_is_as_long_as_the_service_asks_for(store: JobStore, spec: JobSpec) -> None:
    asked: list[float] = []

    def handler(_: httpx.Request) -> httpx.Response:
        asked.append(time.monotonic())
        if len(asked) == 1:
            return httpx.Response(429, headers={"Retry-After": "1"})
        return httpx.Response(200, text=job_json(store, spec))

    client(handler).get("x")
    assert asked[1] - asked[0] >= 1
    full = {"type": "/problems/unavailable", "title": "t", "status": 503, "detail": "no room"}
    started = time.monotonic()
    with pytest.raises(errors.Unavailable, match="no room"):  # not even begun to wait: the patience is shorter
        client(lambda _: httpx.Response(503, json=full, headers={"Retry-After": "30"})).get("x")
    assert time.monotonic() - started < 5


def test_events_go_on_behind_the_last_id_and_leave_out_what_is_not_known() -> None:
    streams = [
        b'id: 1-0\nevent: status\ndata: {"type":"status","at":"2026-11-25T00:00:00Z","status":"queued"}\n\n'
        b'event: mood\ndata: {"type":"mood","good":true}\n\nid: 2-0\nevent: warning\ndata: {"type":"war',
        b'id: 2-0\ndata: {"type":"warning","at":"2026-11-25T00:00:00Z","text":"w","later":1}\n\n: nothing new\n\n'
        b'id: 3-0\ndata: {"type":"ended",\ndata: "at":"2026-11-25T00:00:00Z","status":"failed"}\n\n',
    ]
    known: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        known.append(request.headers.get("Last-Event-ID"))
        if len(known) == 2:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=streams.pop(0), headers={"Content-Type": "text/event-stream"})

    reported = list(client(handler).events("x"))
    assert [(each.id, each.event.type) for each in reported] == [
        ("1-0", "status"),
        ("2-0", "warning"),
        ("3-0", "ended"),
    ]
    assert known == [None, "1-0", "1-0"]


def test_the_events_of_no_job_are_not_found(url: str) -> None:
    with Client(url) as real, pytest.raises(errors.NotFound):
        next(real.events("nobody"))


def test_scores_come_from_the_parts_or_where_they_are_out_of_reach_from_the_service(tmp_path: Path) -> None:
    table = pa.table({"uid": ["a", "b"], "diffin": [0.5, None]})
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path in paths:
        pq.write_table(table, path)
    assert from_parts([part_file(path.as_uri()) for path in paths], ["uid"]) == pa.concat_tables([table, table]).select(
        ["uid"]
    )
    for away in (str(tmp_path / "elsewhere.parquet"), "nothing://of/the/kind"):
        assert from_parts([part_file(str(paths[0])), part_file(away)], None) is None


def part_file(uri: str) -> File:
    return File(uri=uri, size=0, sha256="")
