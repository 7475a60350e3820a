"""kill -9 of a worker at seeded random moments; a poison shard; a worker that freezes, or is told to go."""

import os
import signal
import time
from collections.abc import Callable
from random import Random

from coreset.job import Job, JobStatus
from tests.faults.lab import LEASE_SECONDS, Lab, until

RECOVERS_WITHIN = LEASE_SECONDS + 5

Catch = Callable[[Lab, str, Random], tuple[int, str]]
"""Wait for a moment of the job; returns a worker's pid and the task that it runs."""


def preparing(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    held = lab.catch("prepare", job_id)
    time.sleep(random.uniform(0, 1.5))
    return held


def scoring(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    wanted = random.randrange(len(lab.shards) // 2)
    until(lambda: lab.shards_done() >= wanted, f"{wanted} shards done")
    held = lab.catch("score", job_id)
    time.sleep(random.uniform(0, 0.1))
    return held


def writing(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    """While a part has its temporary name."""
    wanted = random.randrange(len(lab.shards) // 2)
    until(lambda: lab.shards_done() >= wanted, f"{wanted} shards done")
    half: list[str] = []

    def seen() -> bool:
        half.extend(name for name in os.listdir(lab.parts_folder) if name.startswith("."))
        return bool(half)

    until(seen, "a part being written", pause=0)
    task = f"{job_id}-score-{int(half[0].split('.')[1])}"
    held = lab.holder(task.removeprefix(f"{job_id}-"), job_id)
    return held or lab.catch("score", job_id)


def merging(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    return lab.catch("merge", job_id)


def finishing(lab: Lab, job_id: str, random: Random) -> tuple[int, str]:
    held = lab.catch("finish", job_id)
    time.sleep(random.uniform(0, 0.3))
    return held


MOMENTS: dict[str, Catch] = {
    "preparing": preparing,
    "mid-shard": scoring,
    "writing a part": writing,
    "merging": merging,
    "finishing": finishing,
}


def kill(lab: Lab, catch: Catch, random: Random) -> float:
    """kill -9 whoever is caught. Returns the seconds until the lost task is taken again, by whomever."""
    lab.forget()
    lab.ready()
    job_id = lab.submit()
    pid, task = catch(lab, job_id, random)
    os.kill(pid, signal.SIGKILL)
    seconds = lab.again(task, time.monotonic())
    lab.assert_undisturbed(job_id)
    assert seconds < RECOVERS_WITHIN, f"the lost task ran again after {seconds:.1f} s"
    return seconds


def freeze(lab: Lab, random: Random) -> float:
    """SIGSTOP a worker mid-shard until another has its task, then wake it: both write the same part."""
    lab.forget()
    lab.ready()
    job_id = lab.submit()
    pid, task = scoring(lab, job_id, random)
    os.kill(pid, signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        seconds = lab.again(task, frozen)
    finally:
        os.kill(pid, signal.SIGCONT)
    lab.assert_undisturbed(job_id)
    return seconds


def frozen_past_the_end(lab: Lab, random: Random) -> float:
    """The same, but it wakes when the job has ended long ago."""
    lab.forget()
    lab.ready()
    job_id = lab.submit()
    pid, task = scoring(lab, job_id, random)
    os.kill(pid, signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        seconds = lab.again(task, frozen)
        lab.assert_undisturbed(job_id)
    finally:
        os.kill(pid, signal.SIGCONT)
    lab.ready()
    lab.assert_undisturbed(job_id)
    return seconds


def poison(lab: Lab, random: Random, may_fail: int) -> float:
    """Kill every worker that takes one certain shard: it fails after three attempts, and the rest goes on."""
    lab.forget()
    lab.ready()
    shard = random.randrange(len(lab.shards))
    job_id = lab.submit(max_failed_shards=may_fail)
    started = time.monotonic()
    kills = 0

    def given_up() -> bool:
        nonlocal kills
        held = lab.holder(f"score-{shard}", job_id)
        if held and held[1] == f"{job_id}-score-{shard}":
            os.kill(held[0], signal.SIGKILL)
            until(lambda: lab.holder(f"score-{shard}", job_id) != held, "the dead worker's lease over", 30)
            kills += 1
        return lab.get(job_id).progress.shards.failed > 0

    until(given_up, "the shard failed", pause=0.002)
    seconds = time.monotonic() - started
    job = lab.ended(job_id)
    assert kills == 3, f"{kills} attempts"
    _poisoned(lab, job, shard, may_fail)
    return seconds


def _poisoned(lab: Lab, job: Job, shard: int, may_fail: int) -> None:
    assert [failed.uri for failed in job.failed_shards] == [str(lab.shards[shard])]
    assert "3 times" in job.failed_shards[0].message
    assert job.progress.shards.done == len(lab.shards) - 1
    if may_fail:
        assert job.status is JobStatus.SUCCEEDED, job.reason
    else:
        assert (job.status, job.reason and job.reason.code) == (JobStatus.FAILED, "pool-unusable")
    others = {name: sha for name, sha in lab.undisturbed.parts.items() if name != f"{shard:06d}.parquet"}
    assert lab.parts() == others, "the other shards' scores are not identical"


def drain(lab: Lab, random: Random) -> float:
    """SIGTERM mid-shard: the worker ends its shard or hands it back, and exits with 0."""
    lab.forget()
    lab.ready()
    job_id = lab.submit()
    pid, _ = scoring(lab, job_id, random)
    child = next(child for child in lab.workers if child.process and child.process.pid == pid)
    process = child.process
    assert process is not None
    told = time.monotonic()
    process.terminate()
    assert process.wait(timeout=30) == 0, f"exit code {process.returncode}"
    seconds = time.monotonic() - told
    lab.assert_undisturbed(job_id)
    return seconds
