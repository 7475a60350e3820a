"""Records and messages of another version, half-sent requests, files made to harm: other jobs go on as if alone."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import httpx
from rq import Queue
from rq.serializers import JSONSerializer

from coreset.schemas.job import Job, JobStatus
from tests.faults.lab import Lab
from tests.field.clients import half_sent
from tests.field.test_12_files_beside_shards import MAX_ROWS, write_statuses
from tests.fuzz.parquets import mutated

HEADS, BODIES = 200, 100
BODY = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n{"
KILLER = 9
"""Seed of a parquet at which Arrow ends its process (tests/field/test_12_files_beside_shards.py)."""
HOSTILE_OPTIONS = {
    "a rate of 5,000 digits": "lr: " + "9" * 5000,
    "an endless epoch": "train_num_samples: 1" + "0" * 400,
    "a model of a hub": "model: hf-hub:somebody/something",
    "an image of -1": "force_image_size: -1",
    "a nest": "image_mean: " + "[" * 100_000,
}


def another_version(lab: Lab, random: Random) -> float:
    """Put a newer version's record and an older one's message on the Redis of a running job. Seconds: to its end."""
    lab.clear()
    lab.stop_workers()
    newer = lab.submit()
    record = f"coreset:job:{newer}"
    spec = json.loads(lab.redis.hget(record, "spec") or b"{}")
    lab.redis.hset(record, "spec", json.dumps({**spec, "from_a_newer_version": {"a": 1}}))
    queue = Queue("gpu", connection=lab.redis, serializer=JSONSerializer)
    older = queue.enqueue("workers.tasks.score", newer, 0)
    job_id = lab.submit()
    lab.wake_workers()
    going = time.monotonic()
    lab.assert_undisturbed(job_id)
    seconds = time.monotonic() - going
    reason = lab.redis.hget(record, "reason_message") or b""
    assert b"from_a_newer_version" in reason, f"the newer version's job says {reason!r}"
    assert lab.status(newer) is JobStatus.UNREADABLE
    assert "none of the worker's tasks" in str(older.latest_result().exc_string)
    assert newer in {job.id for job in lab.client.jobs()}
    lab.client.delete(newer)
    return seconds


def half_sent_requests(lab: Lab, random: Random) -> float:
    """Open requests that never end while a job runs. Seconds: of the slowest answer meanwhile."""
    job_id, slowest = lab.begin(), 0.0
    with ExitStack() as opened:
        opened.enter_context(half_sent(lab.stack.port, HEADS, b"GET /v1/jobs HTTP/1.1\r\nHost: 127"))
        opened.enter_context(half_sent(lab.stack.port, BODIES, BODY))
        while not lab.get(job_id).ended_at:
            begun = time.monotonic()
            assert httpx.get(f"{lab.stack.url}/healthz", timeout=10).is_success
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.1)
    lab.assert_undisturbed(job_id)
    return slowest


def hostile_parquets(lab: Lab, random: Random) -> float:
    """Put parquets beside all shards that take gigabytes, or end their reader: they announce nothing."""
    lab.clear()
    with _beside_shards(lab):
        posted = time.monotonic()
        lab.assert_undisturbed(lab.submit())
        return time.monotonic() - posted


@contextmanager
def _beside_shards(lab: Lab) -> Iterator[None]:
    written = [path.with_suffix(".parquet") for path in lab.shards]
    try:
        for number, path in enumerate(written):
            if number % 3 == 0:
                path.write_bytes(mutated(KILLER))
            else:
                write_statuses(path, "s" * 10**6 if number % 3 == 1 else "success", MAX_ROWS + 1)
        yield
    finally:
        for path in written:
            path.unlink(missing_ok=True)


def hostile_options(lab: Lab, random: Random) -> float:
    """Post jobs on a run with a params.txt made to harm: each is refused by name, and a job beside them goes on."""
    run = Path(lab.spec["checkpoints"]["run"])
    job_id = lab.begin()
    begun = time.monotonic()
    with ExitStack() as copies:
        refused: list[Job] = []
        for number, line in enumerate(HOSTILE_OPTIONS.values()):
            copy = run.with_name(f"{run.name}-{number}")
            copies.callback(shutil.rmtree, copy, ignore_errors=True)
            shutil.copytree(run, copy)
            (copy / "open_clip_config.json").unlink(missing_ok=True)
            name = line.partition(":")[0]
            kept = [one for one in (copy / "params.txt").read_text().splitlines() if not one.startswith(f"{name}:")]
            (copy / "params.txt").write_text("\n".join([*kept, line]))
            refused.append(lab.ended(lab.submit(checkpoints={"run": str(copy)})))
        codes = [job.reason.code if job.reason else job.status.value for job in refused]
    lab.assert_undisturbed(job_id)
    assert set(codes) <= {"checkpoint-unusable", "location-forbidden"}, dict(zip(HOSTILE_OPTIONS, codes, strict=True))
    return time.monotonic() - begun
