"""Redis away, Redis emptied, Redis killed, the service killed."""

import os
import signal
import threading
import time
from random import Random

import httpx

from coreset.schemas.job import TERMINAL, JobStatus
from tests.faults.kills import some_done
from tests.faults.lab import Lab, until

ORDER = [JobStatus.QUEUED, JobStatus.PREPARING, JobStatus.SCORING, JobStatus.REDUCING, JobStatus.SUCCEEDED]


def redis_away(lab: Lab, random: Random) -> float:
    """Stop Redis mid-job for three seconds, and start it on its file. Seconds: from then to the next part."""
    return _redis_gone(lab, random, signal.SIGTERM, away=3.0)


def redis_killed(lab: Lab, random: Random) -> float:
    """kill -9 Redis mid-job. The file may lack its last second."""
    return _redis_gone(lab, random, signal.SIGKILL, away=0.0)


def _redis_gone(lab: Lab, random: Random, how: signal.Signals, away: float) -> float:
    job_id = lab.begin()
    some_done(lab, random)
    server = lab.stack.redis
    assert server is not None
    keeper, server.restart = server.restart, lambda: None  # it stays away for as long as we say
    os.kill(server.pid, how)
    until(lambda: not server.alive(), "Redis gone")
    time.sleep(away)
    server.restart = keeper
    done = lab.shards_done()
    back = time.monotonic()
    until(lambda: lab.shards_done() > done, "the next part")
    seconds = time.monotonic() - back
    lab.assert_undisturbed(job_id)
    return seconds


def redis_wiped(lab: Lab, random: Random) -> float:
    """Empty Redis mid-job and post the spec again: no shard that is done is scored again."""
    job_id = lab.begin()
    some_done(lab, random)
    lab.redis.flushall()
    until(lambda: not any(lab.redis.scan_iter("rq:wip:*")), "no worker at a task", 30)
    time.sleep(0.5)  # a worker that was mid-shard may still write its part
    kept = lab.times()
    posted = time.monotonic()
    again = lab.submit()
    assert again != job_id
    lab.assert_undisturbed(again)
    assert kept.items() <= lab.times().items(), "parts that were there were computed again"
    return time.monotonic() - posted


def service_killed(lab: Lab, random: Random) -> float:
    """kill -9 the service mid-job while somebody polls: no wrong state is seen. Seconds: until it answers again."""
    job_id = lab.begin()
    seen: list[JobStatus] = []
    odd: list[str] = []
    over = threading.Event()
    poller = threading.Thread(target=_poll, args=(lab, job_id, seen, odd, over))
    poller.start()
    try:
        some_done(lab, random)
        process = lab.service.process
        assert process is not None
        process.kill()
        process.wait()
        killed = time.monotonic()
        until(lambda: _answers(f"{lab.stack.url}/v1/jobs/{job_id}"), "the service back", 60)
        seconds = time.monotonic() - killed
        lab.assert_undisturbed(job_id)
    finally:
        over.set()
        poller.join()
    assert not odd, f"a poller saw {odd[:3]}"
    places = [ORDER.index(status) for status in seen]
    assert places == sorted(places), f"a poller saw the states {seen}"
    return seconds


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def _poll(lab: Lab, job_id: str, seen: list[JobStatus], odd: list[str], over: threading.Event) -> None:
    """Poll as a pipeline does; a lost connection and 503 are what it must expect, all else is odd."""
    while not over.wait(0.02) and not (seen and seen[-1] in TERMINAL):
        try:
            answer = httpx.get(f"{lab.stack.url}/v1/jobs/{job_id}", timeout=2)
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            seen.append(JobStatus(answer.json()["status"]))
        elif answer.status_code != 503:
            odd.append(f"{answer.status_code} {answer.text[:200]}")
