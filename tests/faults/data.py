"""Shards that are broken, gone or changed; a part half-written; a full disk; a read that hangs; no memory."""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from coreset.schemas.job import Job, JobStatus
from tests.faults.lab import Lab, until

Break = Callable[[Path], object]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 - 100)


def garbage(path: Path) -> None:
    path.write_bytes(b"noise" * 1000)


def change(path: Path) -> None:
    """Add a member, as rewriting the shard does."""
    note = path.with_suffix(".note")
    note.write_text(
        "a note\n" * 10_000
    )  # larger than what tar's padding hides: a shard of the same size is not noticed
    subprocess.run(["tar", "rf", str(path), "-C", str(path.parent), note.name], check=True)
    note.unlink()


@contextmanager
def broken(lab: Lab, shard: int, how: Break) -> Iterator[Path]:
    """Break a shard of the pool, and put it back."""
    path = lab.shards[shard]
    kept = path.with_suffix(".kept")
    shutil.copy2(path, kept)
    try:
        how(path)
        yield path
    finally:
        path.unlink(missing_ok=True)
        kept.replace(path)


def before_planning(lab: Lab, random: Random, how: Break, fails: bool) -> float:
    """Break a shard and post the job: the shard is named, and all others are scored."""
    lab.clear()
    shard = len(lab.shards) - 1  # B comes of the first ones of the plan's draw; so other parts may differ
    with broken(lab, shard, how) as path:
        posted = time.monotonic()
        job = lab.ended(lab.submit(max_failed_shards=1))
        seconds = time.monotonic() - posted
        assert job.status is JobStatus.SUCCEEDED, job.reason
        _named(lab, job, path, fails)
    return seconds


def after_planning(lab: Lab, random: Random, how: Break) -> float:
    """Break a shard between planning and scoring: it fails, named; the others' scores are identical."""
    shard = len(lab.shards) - 1
    job_id = lab.begin(max_failed_shards=1)
    until((lab.plan_folder / "prepared" / "ready.json").exists, "prepared", pause=0.001)
    lab.stop_workers()
    with broken(lab, shard, how) as path:
        lab.wake_workers()
        going = time.monotonic()
        job = lab.ended(job_id)
        seconds = time.monotonic() - going
    assert job.status is JobStatus.SUCCEEDED, job.reason
    _named(lab, job, path, fails=True)
    lab.assert_others(shard)
    return seconds


def _named(lab: Lab, job: Job, path: Path, fails: bool) -> None:
    """The shard has failed, or what could be read of it was scored and it is called damaged."""
    manifest = lab.client.result(job.id)
    named = manifest.failed_shards if fails else list(manifest.damaged_shards)
    assert named == [str(path)], f"named are {named}"
    assert job.progress.shards.done + job.progress.shards.failed == len(lab.shards)


def half_a_part(lab: Lab, random: Random) -> float:
    """Leave a part cut in half, one under a temporary name, and no summary, as a crash might: both are rewritten."""
    lab.clear()
    lab.ended(lab.submit())
    shard = random.randrange(len(lab.shards))
    part = lab.parts_folder / f"{shard:06d}.parquet"
    part.with_suffix(".json").unlink()
    shutil.copy(part, part.with_name(f".{part.name}.half"))
    os.truncate(part, part.stat().st_size // 2)
    posted = time.monotonic()
    lab.assert_undisturbed(lab.submit())
    return time.monotonic() - posted


def hang(lab: Lab, random: Random) -> float:
    """Put a pipe that nobody writes to in a shard's place: the read hangs, and the progress deadline ends it.

    The worker's lease is renewed all the while, so only the deadline can. Then the shard is put back.
    """
    shard = len(lab.shards) - 1
    processes = [child.process for child in lab.workers]
    job_id = lab.begin()
    until((lab.plan_folder / "prepared" / "ready.json").exists, "prepared", pause=0.001)
    lab.stop_workers()
    with broken(lab, shard, _pipe):
        lab.wake_workers()
        lab.catch(f"score-{shard}", job_id)
        lab.wake_workers()
        hung = time.monotonic()
        until(lambda: [child.process for child in lab.workers] != processes, "the hung process ended", 60)
    seconds = time.monotonic() - hung
    lab.assert_undisturbed(job_id)
    return seconds


def _pipe(path: Path) -> None:
    """With the shard's time, since a shard that has another one is not read at all."""
    times = path.stat()
    path.unlink()
    os.mkfifo(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def no_memory(lab: Lab, random: Random) -> float:
    """Let a worker's memory not grow any more, mid-shard, for two seconds."""
    job_id = lab.begin()
    until(lambda: lab.shards_done() >= 2, "2 shards done")
    pid, _ = lab.catch("score", job_id)
    lab.wake_workers()
    starved = time.monotonic()
    resource.prlimit(pid, resource.RLIMIT_AS, (2**20, resource.RLIM_INFINITY))
    time.sleep(2)
    with suppress(ProcessLookupError):  # it may have died of it; then another one takes its task
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    lab.assert_undisturbed(job_id)
    return time.monotonic() - starved


def full_disk(lab: Lab, random: Random) -> float:
    """Fill the storage's disk mid-job: the job fails and says why; with room, the same spec goes on from its parts."""
    job_id = lab.begin()
    until(lambda: lab.shards_done() >= 2, "2 shards done")
    filler = Path(lab.stack.storage) / "filler"
    try:
        _fill(filler)
        job = lab.ended(job_id)
    finally:
        filler.unlink(missing_ok=True)
    assert job.status is JobStatus.FAILED, job.status
    reported = f"{job.reason} {job.failed_shards}"
    assert "no space" in reported.lower(), f"the job says {reported[:300]}"
    roomy = time.monotonic()
    lab.assert_undisturbed(lab.submit())
    return time.monotonic() - roomy


def read_only(lab: Lab, random: Random) -> float:
    """Turn the storage's disk read-only mid-job: the job fails and says why; writable again, the same spec goes on."""
    job_id = lab.begin()
    until(lambda: lab.shards_done() >= 2, "2 shards done")
    try:
        until(lambda: _remount(lab, "ro"), "a moment in which no file is being written", pause=0.005)
        job = lab.ended(job_id)
    finally:
        assert _remount(lab, "rw")
    assert job.status is JobStatus.FAILED, job.status
    reported = f"{job.reason} {job.failed_shards}"
    assert "cannot be written" in reported, f"the job says {reported[:300]}"
    writable = time.monotonic()
    lab.assert_undisturbed(lab.submit())
    return time.monotonic() - writable


def _remount(lab: Lab, mode: str) -> bool:
    command = ["mount", "-o", f"remount,{mode}", lab.stack.storage]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fill(path: Path) -> None:
    """Write until the disk is full, then nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**16, 2**12, 2**8, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
