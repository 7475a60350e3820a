"""Clocks that jump by an hour: of a worker while another one dies, and of the service."""

import shutil
import subprocess
import time
from pathlib import Path
from random import Random

from tests.faults import kills
from tests.faults.lab import Lab, Missed

HOUR = 3600
SOURCE = Path(__file__).with_name("clock.c")


def library(folder: Path) -> Path | None:
    """Compile the library that shifts the clock of a process that preloads it; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    built = folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SOURCE, "-ldl"], check=True)
    return built


def worker(lab: Lab, random: Random, seconds: int) -> float:
    """Let a worker's clock jump, and kill the other one mid-shard: its task is taken again in a lease's time.

    No lease is taken for expired but that of the dead worker.
    """
    job_id = lab.begin()
    expired = _expired(lab)
    lab.jump(lab.workers[0], seconds)
    try:
        pid, task = kills.scoring(lab, job_id, random)
        other = lab.workers[1].process
        if other is None or pid != other.pid:
            lab.wake_workers()
            lab.ended(job_id)
            raise Missed("the worker whose clock is right had no task")
        other.kill()
        killed = time.monotonic()
        lab.wake_workers()
        taken = lab.again(task, killed)
        lab.assert_undisturbed(job_id)
        assert taken < kills.RECOVERS_WITHIN, f"the lost task ran again after {taken:.1f} s"
        assert _expired(lab) - expired <= 1, f"{_expired(lab) - expired} leases ran out, of one dead worker"
    finally:
        lab.jump(lab.workers[0], 0)
    return taken


def service(lab: Lab, random: Random, seconds: int) -> float:
    """Let the service's clock jump mid-job. Seconds: until the job's end."""
    job_id = lab.begin()
    kills.some_done(lab, random)
    jumped = time.monotonic()
    lab.jump(lab.service, seconds)
    try:
        job = lab.assert_undisturbed(job_id)
    finally:
        lab.jump(lab.service, 0)
    assert job.started_at is not None
    assert job.ended_at is not None
    assert abs((job.ended_at - job.started_at).total_seconds()) < HOUR / 2, "the job's times are not of one clock"
    return time.monotonic() - jumped


def _expired(lab: Lab) -> int:
    return int(lab.redis.hget("coreset:totals", "leases_expired") or 0)
