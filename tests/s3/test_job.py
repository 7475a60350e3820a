"""A whole job with its pool, its checkpoints and its results on an S3 that answers badly one time in eight."""

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import s3fs

from coreset.client import Client
from coreset.job import JobStatus
from coreset.result import Manifest
from coreset.server import LocalStack
from coreset.storage import Storage
from tests.s3.faulty_proxy import Choose, FaultyProxy

pytestmark = pytest.mark.timeout(300)

FAULTS = ("error", "lost", "slow", "cut", "short")
SHARE = 1 / 8
ROOT = Path(__file__).parents[2]


def spoiled(seed: int) -> Choose:
    """Every kind of fault, for all that reads or writes an object."""
    drawn, lock = random.Random(seed), threading.Lock()

    def choose(method: str, path: str) -> str | None:
        with lock:
            share, fault = drawn.random(), drawn.choice(FAULTS)
        return fault if share < SHARE and method in ("GET", "PUT", "POST") else None

    return choose


@pytest.fixture
def spec(bucket: str, tiny_pool: Path, tiny_run: Path) -> dict[str, Any]:
    s3 = s3fs.S3FileSystem()
    s3.put(str(tiny_pool), f"{bucket}/pool", recursive=True)
    s3.put(str(tiny_run), f"{bucket}/run", recursive=True)
    return {
        "pool": {"shards": [f"{bucket}/pool/{{000000..000005}}.tar"]},
        "checkpoints": {"run": f"{bucket}/run"},
        "reference": {"size": 24},
        "select": {"k": 40, "by": {"diffin": 1, "clip_score": 1}},
    }


def scored(client: Client, spec: dict[str, Any]) -> Manifest:
    job = client.wait(client.submit(spec).id, timeout=200)
    assert job.status is JobStatus.SUCCEEDED, job.reason
    assert (job.progress.shards.done, job.progress.shards.failed) == (6, 0)
    return client.result(job.id)


def test_a_job_on_a_bad_s3_scores_as_on_a_good_one(
    bucket: str, proxy: FaultyProxy, spec: dict[str, Any], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CORESET_LOADER_PROCESSES": "0"}
    storage = Storage(f"{bucket}/results")
    stack = LocalStack(tmp_path, environment, port=0, workers=1, storage=storage.root)
    with stack, Client(stack.url) as client:
        undisturbed = scored(client, spec)
        storage.delete(f"plans/{undisturbed.plan_id}")
        proxy.choose = spoiled(seed=3)
        disturbed = scored(client, spec)
    proxy.choose = lambda method, path: None
    assert disturbed.plan_id == undisturbed.plan_id
    assert [part.sha256 for part in disturbed.parts] == [part.sha256 for part in undisturbed.parts]
    assert disturbed.read == undisturbed.read == 180
    assert disturbed.damaged_shards == {}
    for name, file in disturbed.selection.files.items():
        assert file.sha256 == undisturbed.selection.files[name].sha256
    assert all(proxy.told[fault] > 0 for fault in FAULTS), proxy.told
