"""What the queue costs: jobs whose scores are free, and workers whose scores take a fixed time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.scale import tasks
from coreset.local.redis_server import EmbeddedRedis
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.redis.connection import connect
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec

ROOT = Path(__file__).parents[2]
SPEC = JobSpec.model_validate(
    {"pool": {"shards": ["pool.tar"]}, "checkpoints": {"run": "run"}, "select": {"fraction": 0.3}}
)


class Bench:
    """An empty Redis of our own, its queue with `benchmarks.scale.tasks`, and workers that are ended with it."""

    def __init__(self, server: EmbeddedRedis, folder: Path) -> None:
        self.redis: Any = connect(server.url)
        self.redis.flushall()
        self.redis.config_resetstat()
        self.store = JobStore(self.redis)
        self.queue = TaskQueue(self.redis, tasks="benchmarks.scale.tasks")
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CORESET_REDIS_URL": server.url,
            "CORESET_STORAGE": str(folder),
            "CORESET_LOG_LEVEL": "warning",
        }

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Run so many worker processes, from the moment when all of them wait for tasks."""
        command = [sys.executable, "-m", "coreset_workers"]
        started = [subprocess.Popen(command, env=self._environment, cwd=ROOT) for _ in range(count)]
        try:
            while self.queue.workers.count() < count:
                if any(process.poll() is not None for process in started):
                    raise RuntimeError("a worker ended before it had begun")
                time.sleep(0.1)
            yield
        finally:
            for process in started:
                process.kill()
                process.wait()

    def post(self, job_id: str, shards: int) -> float:
        """Put a job's tasks on the queue. Returns the seconds it took."""
        self.store.create(SPEC, job_id)
        for status in (JobStatus.PREPARING, JobStatus.SCORING):
            self.store.transition(job_id, status)
        started = time.monotonic()
        self.queue.enqueue_scoring(job_id, [range(n, n + 1) for n in range(shards)])
        return time.monotonic() - started

    def wait(self, job_id: str) -> float:
        """Wait for the job's end. Returns the seconds since its first score began."""
        while (status := self.store.status(job_id)) is JobStatus.SCORING:
            time.sleep(0.02)
        ended = time.time()
        if status is JobStatus.FAILED:
            raise RuntimeError(str(self.store.get(job_id).reason))
        return ended - float(self.redis.get(f"{tasks.FIRST}:{job_id}"))

    def memory(self) -> int:
        return int(self.redis.info("memory")["used_memory"])

    def commands(self) -> int:
        return int(self.redis.info("stats")["total_commands_processed"])


def free_scores(shards: int, folder: Path) -> dict[str, Any]:
    """A job whose scores cost nothing, one worker: the queue's share of a shard."""
    with EmbeddedRedis(folder / f"redis-{shards}") as server:
        bench = Bench(server, folder)
        empty = bench.memory()
        posting = bench.post("job", shards)
        waiting, posted = bench.memory(), bench.commands()
        with bench.workers(1):
            seconds = bench.wait("job")
        peak = int(bench.redis.info("memory")["used_memory_peak"])
        return {
            "shards": shards,
            "posting_seconds": round(posting, 2),
            "seconds": round(seconds, 2),
            "ms_a_shard": round(1000 * seconds / shards, 3),
            "commands_a_shard": round((bench.commands() - posted) / shards, 1),
            "redis_bytes_waiting": waiting - empty,
            "redis_bytes_peak": peak,
            "redis_bytes_a_shard": round((peak - empty) / shards),
        }


def fixed_scores(workers: int, shards: int, seconds: float, folder: Path) -> dict[str, Any]:
    """A job whose scores take `seconds` each: how much of the workers' time was spent in them."""
    with EmbeddedRedis(folder / f"redis-{workers}-workers") as server:
        bench = Bench(server, folder)
        bench.redis.set(tasks.SLEEP, seconds)
        with bench.workers(workers):
            bench.post("job", shards)
            took = bench.wait("job")
        efficiency = seconds * shards / workers / took
        return {
            "workers": workers,
            "shards": shards,
            "score_seconds": seconds,
            "seconds": round(took, 2),
            "efficiency": round(efficiency, 4),
        }
