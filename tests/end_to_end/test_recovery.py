"""What was computed survives: a cancelled job, a Redis that has lost everything, and workers that are killed."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from coreset.client import Client
from coreset.errors import Conflict, NotFound
from coreset.local.stack import LocalStack
from coreset.schemas.job import Job, JobStatus
from tests.end_to_end.conftest import kill_worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COPIES = 3
Until = Callable[[Callable[[], object]], None]
Parts = dict[str, tuple[int, bytes]]
"""Files of a plan's parts by name: time of the last change, and bytes."""


@pytest.fixture(scope="module")
def many_shards(tiny_pool: Path, spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec of more shards, so that scoring takes seconds and can be disturbed."""
    directory = tmp_path_factory.mktemp("many")
    paths = sorted(tiny_pool.glob("*.tar"))
    for copy in range(COPIES):
        for number, path in enumerate(paths):
            shutil.copy(path, directory / f"{copy * len(paths) + number:06d}.tar")
    last = COPIES * len(paths) - 1
    return {**spec, "pool": {"shards": [str(directory / f"{{000000..{last:06d}}}.tar")]}}


def parts_of(stack: LocalStack, plan_id: str | None) -> Parts:
    folder = Path(stack.storage) / "plans" / str(plan_id) / "parts"
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.glob("[0-9]*"))}


def shards_done(stack: LocalStack, plan_id: str | None) -> int:
    return len(list((Path(stack.storage) / "plans" / str(plan_id) / "parts").glob("[0-9]*.json")))


def succeeded(client: Client, spec: dict[str, Any]) -> Job:
    job = client.wait(client.submit(spec).id, timeout=120)
    assert job.status is JobStatus.SUCCEEDED, job.reason
    return job


def test_the_same_spec_after_redis_lost_everything_finds_its_parts(
    stack: LocalStack, client: Client, spec: dict[str, Any]
) -> None:
    before = succeeded(client, spec)
    manifest = client.result(before.id)
    parts = parts_of(stack, before.plan_id)
    with Redis.from_url(stack.redis_url) as redis:
        redis.flushall()
    with pytest.raises(NotFound):
        client.get(before.id)
    after = succeeded(client, spec)
    assert after.plan_id == before.plan_id
    assert after.id != before.id
    assert parts_of(stack, after.plan_id) == parts
    assert after.progress.samples == before.progress.samples
    result = client.result(after.id)
    assert (result.parts, result.selection.files["subset.npy"].sha256) == (
        manifest.parts,
        manifest.selection.files["subset.npy"].sha256,
    )


def test_a_cancelled_job_keeps_its_parts_and_the_next_one_goes_on_from_there(
    stack: LocalStack, client: Client, many_shards: dict[str, Any], until: Until
) -> None:
    spec = {**many_shards, "reference": {"size": 24, "seed": 1}}
    job = client.submit(spec)
    until(lambda: client.get(job.id).progress.shards.done)
    assert client.cancel(job.id).status is JobStatus.CANCELLING
    cancelled = client.wait(job.id, timeout=60)
    assert cancelled.status is JobStatus.CANCELLED
    kept = parts_of(stack, cancelled.plan_id)
    assert 0 < shards_done(stack, cancelled.plan_id) < 6 * COPIES
    with pytest.raises(Conflict):
        client.result(job.id)
    with pytest.raises(Conflict):
        client.cancel(job.id)
    after = succeeded(client, spec)
    assert after.plan_id == cancelled.plan_id
    assert kept.items() <= parts_of(stack, after.plan_id).items()
    assert after.progress.shards.done == 6 * COPIES


def test_workers_killed_while_preparing_and_while_scoring_change_no_bit_of_any_score(
    stack: LocalStack, client: Client, many_shards: dict[str, Any], until: Until
) -> None:
    plan_id = succeeded(client, many_shards).plan_id
    undisturbed = {name: data for name, (_, data) in parts_of(stack, plan_id).items() if name.endswith(".parquet")}
    shutil.rmtree(Path(stack.storage) / "plans" / str(plan_id))
    job = client.submit(many_shards)
    until(lambda: client.get(job.id).status is JobStatus.PREPARING)
    kill_worker(stack)
    assert not (Path(stack.storage) / "plans" / str(plan_id) / "prepared" / "ready.json").exists()
    until(lambda: shards_done(stack, plan_id))
    kill_worker(stack)
    assert shards_done(stack, plan_id) < 6 * COPIES
    started = time.monotonic()
    ended = client.wait(job.id, timeout=120)
    print(f"{time.monotonic() - started:.1f} s from the second kill to the end of the job")
    assert (ended.status, ended.plan_id) == (JobStatus.SUCCEEDED, plan_id)
    assert ended.failed_shards == []
    disturbed = {name: data for name, (_, data) in parts_of(stack, plan_id).items() if name.endswith(".parquet")}
    assert disturbed == undisturbed
    assert len(disturbed) == 6 * COPIES
