"""A client on the line while the service is killed and comes back: waits and event streams go on."""

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from coreset import AsyncClient, Client
from coreset.client import StreamedEvent
from coreset.local.stack import LocalStack
from coreset.queue.job_store import JobStore
from coreset.schemas.job import Job, JobStatus, Reason
from coreset.spec.job import JobSpec

REASON = Reason(code="pool-unusable", message="nothing in it")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """Redis and a service that is started again when it dies; no worker."""
    with LocalStack(tmp_path, os.environ, port=0, workers=0) as stack:
        yield stack


@pytest.fixture
def own_store(stack: LocalStack) -> Iterator[JobStore]:
    with Redis.from_url(stack.redis_url) as redis:
        yield JobStore(redis)


class Outage:
    """Kills the service when a caller has heard of the first change; the job then fails while nobody can be asked."""

    def __init__(self, stack: LocalStack, store: JobStore) -> None:
        self.stack, self.store, self.done = stack, store, threading.Event()

    def strike(self, job_id: str) -> None:
        process = self.stack.children[0].process
        assert process is not None
        self.killed = process
        os.kill(process.pid, signal.SIGKILL)
        self.store.warn(job_id, "said while the service was away")
        self.store.transition(job_id, JobStatus.FAILED, REASON)
        self.done.set()

    def after(self, job: Job) -> None:
        if job.status is JobStatus.PREPARING and not self.done.is_set():
            self.strike(job.id)


def check_events(reported: list[StreamedEvent], seen: list[Job], ended: Job) -> None:
    """Every milestone has come once and in order, although the connection broke off in the middle."""
    milestones = [each.event.type for each in reported if each.event.type != "progress"]
    assert milestones == ["status", "status", "warning", "ended"]
    assert [job.status for job in seen if job.status is not JobStatus.QUEUED] == [JobStatus.PREPARING, JobStatus.FAILED]
    assert (ended.status, ended.reason) == (JobStatus.FAILED, REASON)


@pytest.mark.slow
def test_a_wait_and_a_stream_outlive_the_service(stack: LocalStack, own_store: JobStore, spec: JobSpec) -> None:
    outage, reported, seen = Outage(stack, own_store), [], []
    with Client(stack.url) as client, Client(stack.url) as other:
        job = client.submit(spec)
        listener = threading.Thread(target=lambda: reported.extend(other.events(job.id)))
        listener.start()
        own_store.transition(job.id, JobStatus.PREPARING)
        ended = client.wait(job.id, progress=lambda job: (seen.append(job), outage.after(job)), timeout=60)
        listener.join(timeout=30)
        assert not listener.is_alive()
        check_events(reported, seen, ended)
        assert list(client.events(job.id, after=reported[-1].id)) == []
    assert outage.killed is not stack.children[0].process, "the service was restarted"


@pytest.mark.slow
def test_the_same_awaited(stack: LocalStack, own_store: JobStore, spec: JobSpec) -> None:
    outage, reported, seen = Outage(stack, own_store), [], []

    async def watch() -> Job:
        async with AsyncClient(stack.url) as client:
            job = await client.submit(spec)
            own_store.transition(job.id, JobStatus.PREPARING)

            async def progress(job: Job) -> None:
                seen.append(job)
                outage.after(job)

            async def listen() -> None:
                reported.extend([each async for each in client.events(job.id)])

            _, ended = await asyncio.gather(listen(), client.wait(job.id, progress=progress, timeout=60))
            assert [each.id async for each in client.jobs()] == [job.id]
            return ended

    ended = asyncio.run(watch())
    check_events(reported, seen, ended)


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type[Client] | type[AsyncClient]) -> dict[str, list[str]]:
        members = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(member).parameters) for name, member in members if name[0] != "_"}

    assert methods(Client) == methods(AsyncClient)
