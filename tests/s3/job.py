"""A whole job with its pool, its checkpoints and its results on an S3 that answers badly now and then."""

import os
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import s3fs

from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.schemas.job import JobStatus
from coreset.schemas.manifest import Manifest
from coreset.storage.storage import Storage
from tests.s3.faulty_proxy import Choose, FaultyProxy
from tests.s3.server import new_bucket

FAULTS = ("error", "lost", "slow", "cut", "short")
SHARE = 1 / 8
ROOT = Path(__file__).parents[2]


def spoiled(faults: Sequence[str], seed: int | str) -> Choose:
    """Return a choice that spoils one in eight of the requests that read or write an object."""
    drawn, lock = random.Random(seed), threading.Lock()

    def choose(method: str, path: str) -> str | None:
        with lock:
            share, fault = drawn.random(), drawn.choice(faults)
        return fault if share < SHARE and method in ("GET", "PUT", "POST") else None

    return choose


def disturb(proxy: FaultyProxy, folder: Path, shards: Sequence[Path], run: Path, choose: Choose) -> float:
    """Run a job on a good S3, forget what it computed, run it again on a bad one, and compare bit for bit.

    Returns:
        Seconds of the second job.
    """
    bucket = new_bucket()
    spec = _upload(bucket, shards, run)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CORESET_LOADER_PROCESSES": "0"}
    storage = Storage(f"{bucket}/results")
    stack = LocalStack(folder, environment, port=0, workers=1, storage=storage.root)
    with stack, Client(stack.url) as client:
        undisturbed = _scored(client, spec, len(shards))
        storage.delete(f"plans/{undisturbed.plan_id}")
        proxy.choose = choose
        started = time.monotonic()
        disturbed = _scored(client, spec, len(shards))
        seconds = time.monotonic() - started
        proxy.choose = lambda method, path: None
    assert disturbed.plan_id == undisturbed.plan_id
    assert [part.sha256 for part in disturbed.parts] == [part.sha256 for part in undisturbed.parts]
    assert disturbed.read == undisturbed.read
    assert disturbed.damaged_shards == {}
    for name, file in disturbed.selection.files.items():
        assert file.sha256 == undisturbed.selection.files[name].sha256
    return seconds


def _upload(bucket: str, shards: Sequence[Path], run: Path) -> dict[str, Any]:
    s3 = s3fs.S3FileSystem()
    for shard in shards:
        s3.put(str(shard), f"{bucket}/pool/{shard.name}")
    s3.put(str(run), f"{bucket}/run", recursive=True)
    return {
        "pool": {"shards": [f"{bucket}/pool/{shard.name}" for shard in shards]},
        "checkpoints": {"run": f"{bucket}/run"},
        "reference": {"size": 24},
        "select": {"k": 40},
    }


def _scored(client: Client, spec: dict[str, Any], shards: int) -> Manifest:
    job = client.wait(client.submit(spec).id, timeout=300)
    assert job.status is JobStatus.SUCCEEDED, job.reason
    assert (job.progress.shards.done, job.progress.shards.failed) == (shards, 0)
    return client.result(job.id)
