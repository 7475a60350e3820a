"""The app over a real Redis and a folder, called in-process."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis

from coreset.queue.job_store import JobStore, new_job_id
from coreset.schemas.job import JobStatus
from coreset.schemas.manifest import File, Selection
from coreset.schemas.plan import Plan
from coreset.settings import ServiceSettings
from coreset.spec.job import JobSpec
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from coreset_service.app import create_app

SPEC = {
    "pool": {"shards": ["/pool/{000000..000005}.tar"]},
    "checkpoints": {"run": "/logs/demo"},
    "select": {"fraction": 0.3},
}


@pytest.fixture
def app(redis: Redis, storage: Storage) -> FastAPI:
    settings = ServiceSettings(storage=storage.root, max_body_bytes=4096)
    return create_app(settings, redis=redis, storage=storage, select=fake_select)


@pytest.fixture
def api(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture
def succeeded(store: JobStore, storage: Storage) -> str:
    """A job that has succeeded, with a plan and a report in the storage."""
    job_id = store.create(JobSpec.model_validate(SPEC), new_job_id()).id
    store.set_plan(job_id, PLAN.id, 6)
    for status in (JobStatus.PREPARING, JobStatus.SCORING, JobStatus.REDUCING, JobStatus.SUCCEEDED):
        store.transition(job_id, status)
    storage.write(f"plans/{PLAN.id}/plan.json", PLAN.model_dump_json().encode())
    storage.write(f"jobs/{job_id}/report.html", b"<h1>report</h1>")
    storage.write(f"jobs/{job_id}/manifest.json", b'{"made": "by workers"}')
    return job_id


def fake_select(storage: Storage, plan: Plan, job_id: str, spec: SelectSpec) -> Selection:
    folder = f"jobs/{job_id}/selections/s1"
    file = storage.write(f"{folder}/subset.npy", b"uids", rows=1)
    selection = Selection.model_validate(
        {
            "id": "s1",
            "job_id": job_id,
            "spec": spec.model_dump(),
            "k": spec.k or 1,
            "rankable": 10,
            "duplicates": 0,
            "threshold": 0.5,
            "created_at": "2026-11-23T12:00:00Z",
            "files": {"subset.npy": File.model_validate(file.model_dump())},
        }
    )
    storage.write(f"{folder}/selection.json", selection.model_dump_json().encode())
    return selection


_SOURCED = {"value": 1.0, "source": "test"}
PLAN = Plan.model_validate(
    {
        "shards": [{"index": 0, "uri": "/pool/0.tar", "size": 1}],
        "caption_field": None,
        "checkpoints": [],
        "model": {"name": "tiny", "config": {}, "source": "test"},
        "clip_model": None,
        "clip_pretrained": None,
        "target": "training",
        "reference_size": 8,
        "reference_seed": 0,
        "n_samples": _SOURCED,
        "scores": ["diffin", "clip_score", "random"],
        "seed": 0,
    }
)
