"""kill -9 of a worker at seeded random moments; a poison shard; a worker that freezes, or is asked to stop."""

import itertools
import os
import signal
import time
from collections.abc import Callable
from random import Random

from coreset.schemas.job import Job, JobStatus
from tests.faults.lab import LEASE_SECONDS, LOOKS, Lab, Missed, alive, until

RECOVERS_WITHIN = LEASE_SECONDS + 5
ATTEMPTS = 3

Moment = Callable[[Lab, str, Random], tuple[int, str]]
"""Wait for a moment of the job, and stop all workers; returns the pid of one and the task that it holds."""


def preparing(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    lab.catch("prepare", job_id)
    lab.wake_workers()
    time.sleep(random.uniform(0, 1.5))
    return lab.catch("prepare", job_id)


def scoring(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    some_done(lab, random)
    time.sleep(random.uniform(0, 0.3))
    return lab.catch("score", job_id)


def some_done(lab: Lab, random: Random) -> None:
    """Wait until up to half of the shards, but at least one, are done."""
    wanted = random.randrange(1, len(lab.shards) // 2)
    until(lambda: lab.shards_done() >= wanted, f"{wanted} shards done")


def writing(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    """While a part has its temporary name."""
    some_done(lab, random)
    half: list[str] = []
    looks = itertools.count(1)

    def seen() -> bool:
        if next(looks) % LOOKS == 0:
            lab.require_going(job_id, "no part was seen being written")
        half[:] = [name for name in os.listdir(lab.parts_folder) if name.startswith(".") and ".parquet" in name]
        if half:
            lab.stop_workers()
        return bool(half)

    until(seen, "a part being written", pause=0)
    return lab.catch(f"score-{int(half[0].split('.')[1])}", job_id)


def merging(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    return lab.catch("merge", job_id)


def finishing(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    lab.catch("finish", job_id)
    lab.wake_workers()
    time.sleep(random.uniform(0, 0.3))
    return lab.catch("finish", job_id)


MOMENTS: dict[str, Moment] = {
    "preparing": preparing,
    "mid-shard": scoring,
    "writing a part": writing,
    "merging": merging,
    "finishing": finishing,
}


def kill(lab: Lab, random: Random, moment: Moment) -> float:
    """kill -9 the worker that is caught. Return the seconds until any worker takes the lost task again."""
    job_id = lab.begin()
    pid, task = moment(lab, job_id, random)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    lab.wake_workers()
    seconds = lab.again(task, killed)
    lab.assert_undisturbed(job_id)
    assert seconds < RECOVERS_WITHIN, f"the lost task ran again after {seconds:.1f} s"
    return seconds


def freeze(lab: Lab, random: Random, to_the_end: bool) -> float:
    """Stop a worker mid-shard until another has its task, or the job has ended, then wake it: both write the part."""
    job_id = lab.begin()
    pid, task = scoring(lab, job_id, random)
    frozen = _wake_all_but(lab, pid)
    try:
        seconds = lab.again(task, frozen)
        if to_the_end:
            lab.assert_undisturbed(job_id)
    finally:
        lab.wake_workers()
    lab.ready()
    lab.assert_undisturbed(job_id)
    return seconds


def _wake_all_but(lab: Lab, pid: int) -> float:
    for child in lab.workers:
        if child.process is not None and child.process.pid != pid:
            child.process.send_signal(signal.SIGCONT)
    return time.monotonic()


def poison(lab: Lab, random: Random, may_fail: int) -> float:
    """Kill every worker that takes one certain shard: it fails after three attempts, and the rest goes on."""
    shard = random.randrange(len(lab.shards))
    job_id = lab.begin(max_failed_shards=may_fail)
    started = time.monotonic()
    for attempt in range(ATTEMPTS):
        try:
            pid, _ = lab.catch(f"score-{shard}", job_id)
        except Missed:
            assert attempt == 0, f"the job ended when the shard had killed {attempt} workers"
            raise
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not alive(pid), "the process gone")
        lab.wake_workers()
    until(lambda: lab.get(job_id).progress.shards.failed > 0, "the shard failed")
    seconds = time.monotonic() - started
    job = lab.ended(job_id)
    _poisoned(lab, job, shard, may_fail)
    return seconds


def _poisoned(lab: Lab, job: Job, shard: int, may_fail: int) -> None:
    assert [failed.uri for failed in job.failed_shards] == [str(lab.shards[shard])]
    assert "3 times" in job.failed_shards[0].message
    assert job.progress.shards.done == len(lab.shards) - 1
    assert lab.undisturbed is not None
    if may_fail:
        assert job.status is JobStatus.SUCCEEDED, job.reason
    else:
        assert (job.status, job.reason and job.reason.code) == (JobStatus.FAILED, "pool-unusable")
    others = {name: sha for name, sha in lab.undisturbed.parts.items() if name != f"{shard:06d}.parquet"}
    assert lab.parts() == others, "the other shards' scores are not identical"


def drain(lab: Lab, random: Random) -> float:
    """SIGTERM mid-shard: the worker ends its shard or hands it back, and exits with 0."""
    job_id = lab.begin()
    pid, _ = scoring(lab, job_id, random)
    lab.wake_workers()
    child = next(child for child in lab.workers if child.process and child.process.pid == pid)
    process = child.process
    assert process is not None
    asked = time.monotonic()
    process.terminate()
    assert process.wait(timeout=30) == 0, f"exit code {process.returncode}"
    seconds = time.monotonic() - asked
    lab.assert_undisturbed(job_id)
    return seconds
