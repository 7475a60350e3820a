"""Issue 18, point 23: what is not there is answered by the service itself, whatever the workers are busy with."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis

from coreset.access.file_view import FILE_VIEW, file_view
from coreset.access.locations import Locations
from coreset.queue.task_ids import QUEUES
from coreset.queue.task_queue import TaskQueue
from coreset.redis.counters import Counters
from coreset.settings import ServiceSettings
from coreset.storage.storage import Storage
from coreset_service import inputs
from coreset_service.app import create_app
from coreset_service.inputs import InputCheck
from tests.field.pools import sample, write_tar
from tests.s3.conftest import bucket, proxy, s3_port
from tests.service.routes.test_preflight import TestWorker

__all__ = ["bucket", "proxy", "s3_port"]

Post = Callable[..., httpx.Response]


@pytest.fixture
def app(redis: Redis, storage: Storage) -> FastAPI:
    return create_app(ServiceSettings(storage=storage.root, check_seconds=0), redis=redis, storage=storage)


@pytest.fixture
def worker(redis: Redis) -> Iterator[TestWorker]:
    """A worker that sees the service's files, and is busy: it takes no task."""
    alive = TestWorker(QUEUES, redis)
    alive.register_birth()
    Counters(redis).save_report(alive.name, 60, {FILE_VIEW: file_view()})
    yield alive
    alive.register_death()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two shards, an empty one, and a run without checkpoints."""
    for number in range(2):
        write_tar(tmp_path / "pool" / f"{number}.tar", sample("k", number))
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def post(api: TestClient, folder: Path) -> Post:
    def posted(shards: str, check: bool = False, **more: Any) -> httpx.Response:
        spec = {"pool": {"shards": [shards]}, "checkpoints": {"run": str(folder / "run")}, "select": {"k": 1}, **more}
        return api.post("/v1/jobs" + ("?validate_only=true" if check else ""), json=spec)

    return posted


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("shards", "why"),
    [
        ("gone/{0..1}.tar", "2 of 2 shards cannot be opened: {folder}/gone/0.tar (not found)"),
        ("pool/{0..2}.tar", "1 of 3 shards cannot be opened: {folder}/pool/2.tar (not found)"),
        ("gone", "1 of 1 shards cannot be opened: {folder}/gone (not found)"),
        ("empty", "1 of 1 shards cannot be opened: {folder}/empty (a folder without *.tar)"),
        ("empty/*.tar", "1 of 1 shards cannot be opened: {folder}/empty/*.tar (matches no file)"),
        ("*/none-*.tar", "1 of 1 shards cannot be opened: {folder}/*/none-*.tar (matches no file)"),
        ("pool/0.tar/inside.tar", "1 of 1 shards cannot be opened: {folder}/pool/0.tar/inside.tar (not found)"),
    ],
)
def test_shards_that_are_not_there_are_rejected(post: Post, folder: Path, shards: str, why: str, check: bool) -> None:
    answer = post(f"{folder}/{shards}", check)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/shard-unreadable")
    assert answer.json()["detail"].startswith(why.replace("{folder}", str(folder)))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "more",
    [
        {"target": {"pool": {"shards": ["{folder}/gone.tar"]}, "size": 8}},
        {"evaluate": {"test": {"shards": ["{folder}/gone.tar"]}}},
        {"checkpoints": {"run": "{folder}/gone"}},
        {"checkpoints": {"files": [{"uri": "{folder}/gone.pt", "step": 1, "lr": 0.1}]}},
    ],
)
def test_every_input_is_looked_at(post: Post, folder: Path, more: dict[str, Any]) -> None:
    text = str(more).replace("{folder}", str(folder))
    answer = post(f"{folder}/pool/*.tar", **eval(text))
    assert answer.status_code == 422, answer.json()
    assert "gone" in answer.json()["detail"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("shards", ["pool", "pool/*.tar", "pool/{0..1}.tar", "{pool,pool}/*.tar"])
def test_shards_that_are_there_go_on_to_the_worker(post: Post, folder: Path, shards: str) -> None:
    assert post(f"{folder}/{shards}").status_code == 202
    waiting = post(f"{folder}/{shards}", check=True)
    assert waiting.status_code == 503
    assert "not checked yet" not in waiting.json()["detail"]


@pytest.mark.parametrize("report", [{FILE_VIEW: "another machine"}, {}, None])
def test_files_of_other_machines_are_left_to_the_worker(
    post: Post, folder: Path, worker: TestWorker, redis: Redis, report: dict[str, str] | None
) -> None:
    other = TestWorker(QUEUES, redis)
    other.register_birth()
    if report is not None:
        Counters(redis).save_report(other.name, 60, report)
    assert post(f"{folder}/gone/0.tar").status_code == 202
    waiting = post(f"{folder}/gone/0.tar", check=True)
    assert waiting.status_code == 503
    assert "is on the workers' machines, whose files the service does not see" in waiting.json()["detail"]
    other.register_death()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("shards", ["s3://bucket/0.tar", "hf://datasets/a/b/0.tar", "https://example.org/0.tar"])
def test_stores_that_the_service_does_not_know_are_left_to_the_worker(post: Post, shards: str) -> None:
    assert post(shards).status_code == 202
    assert "is read by workers only" in post(shards, check=True).json()["detail"]


def test_a_link_that_leads_out_says_nothing_of_what_is_there(
    folder: Path, redis: Redis, storage: Storage, worker: TestWorker
) -> None:
    (folder / "pool/out").symlink_to(folder / "empty")
    settings = ServiceSettings(storage=storage.root, allowed_uris=f"{folder}/pool,{folder}/run", check_seconds=0)
    spec = {"checkpoints": {"run": str(folder / "run")}, "select": {"k": 1}}
    with TestClient(create_app(settings, redis=redis, storage=storage)) as api:
        for shards in ("out", "out/0.tar", "out/*.tar"):
            body = {**spec, "pool": {"shards": [f"{folder}/pool/{shards}"]}}
            assert api.post("/v1/jobs", json=body).status_code == 202
            waiting = api.post("/v1/jobs?validate_only=true", json=body)
            assert "is a link, which workers judge" in waiting.json()["detail"]


@pytest.mark.usefixtures("worker")
def test_a_storage_that_hangs_delays_no_spec_for_long_and_occupies_few_threads(
    post: Post, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, hung = threading.Event(), list[str]()
    monkeypatch.setattr(inputs, "SECONDS", 0.1)
    monkeypatch.setattr(inputs, "_matches", lambda pattern: (hung.append(pattern), over.wait(60))[1])
    try:
        for number in range(inputs.THREADS + 2):
            waiting = post(f"{folder}/pool/*.tar", check=True, name=f"n{number}")
            said = waiting.json()["detail"]
            assert ("took longer than 0.1 s" if number < inputs.THREADS else "examines other specs") in said
        assert len(hung) == inputs.THREADS
    finally:
        over.set()


@pytest.mark.parametrize(
    ("name", "missing"), [("0.tar", 0), ("gone.tar", 1), ("*.tar", 0), ("g*.tar", 1), ("{0..1}.tar", 1)]
)
def test_the_object_store_of_the_results_is_asked(redis: Redis, bucket: str, name: str, missing: int) -> None:
    store = Storage(f"{bucket}/results")
    Storage(f"{bucket}/pool").write("0.tar", b"x")
    settings = ServiceSettings(storage=store.root, check_seconds=0)
    spec = {
        "clip_model": {"name": "RN50", "pretrained": "yfcc15m"},
        "scores": ["clip_score"],
        "select": {"k": 1, "by": "clip_score"},
    }
    body = {**spec, "pool": {"shards": [f"{bucket}/pool/{name}"]}}
    with TestClient(create_app(settings, redis=redis, storage=store)) as api:
        answer = api.post("/v1/jobs", json=body)
        assert answer.status_code == (422 if missing else 202), answer.json()


def test_a_view_is_the_same_for_processes_of_one_machine(redis: Redis, queue: TaskQueue, storage: Storage) -> None:
    assert file_view() == file_view() is not None
    check = InputCheck(queue.workers, Counters(redis), Locations(), storage)
    assert not check._sees_files(), "no worker is alive"
