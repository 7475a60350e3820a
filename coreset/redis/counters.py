"""Counters of all jobs and workers, and the workers' reports, for the service's /metrics.

They are in Redis, not in the workers: a worker needs no port, one address serves all of them, and the counts of a
worker outlive it. A counter restarts at 0 when Redis is wiped; Prometheus detects such resets.

    field                 unit      incremented by
    jobs:{status}         jobs      JobStore.transition, at a job's end
    shards:{outcome}      shards    ShardRecords.finish (scored, resumed), ShardRecords.fail (failed)
    samples:{status}      samples   ShardRecords.finish, except for resumed shards; by SampleStatus, `ok` is scored
    attempts:{task}       attempts  a worker that begins a task; by the name of the task's function
    task_seconds:{task}   seconds   a worker that has ended an attempt
    failures:{task}       tasks     a worker whose task failed for good
    leases_expired        attempts  a worker that finds another worker's lease expired
    damaged_files:{kind}  files     each process that reads one (coreset.storage.verified); the service at a scrape
    worker_seconds:{what} seconds   each worker: its time by coreset_workers.process.activity.DOING
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import structlog
from redis import Redis

from coreset.errors import Unavailable
from coreset.redis.connection import translate_redis_errors
from coreset.redis.keys import COUNTERS, WORKER

log = structlog.get_logger("coreset.redis.counters")


class Counters:
    """Adds to the counters and reads them.

    Args:
        redis: a client from `coreset.redis.connection.connect`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = cast(Any, redis)  # redis-py's own types are partly unknown

    def add(self, amounts: Mapping[str, float]) -> bool:
        """Add to the counters. Return whether it worked: a Redis that does not answer must not stop the caller."""
        try:
            with translate_redis_errors(), self._redis.pipeline(transaction=True) as pipe:
                for field, amount in amounts.items():
                    pipe.hincrbyfloat(COUNTERS, field, amount)
                pipe.execute()
        except Unavailable:
            log.warning("not counted", fields=sorted(amounts))
            return False
        return True

    def read(self) -> dict[str, float]:
        """Return all counters. Raises Unavailable."""
        with translate_redis_errors():
            values: dict[bytes, bytes] = self._redis.hgetall(COUNTERS)
        return {field.decode(): float(value) for field, value in values.items()}

    def save_report(self, worker: str, seconds: float, report: Mapping[str, Any]) -> None:
        """Store a worker's report on itself for some seconds. Raises Unavailable."""
        with translate_redis_errors():
            self._redis.set(WORKER.format(name=worker), json.dumps(report), px=max(1, int(1000 * seconds)))

    def reports(self, workers: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the reports of those workers that have one that has not expired. Raises Unavailable."""
        names = list(workers)
        if not names:
            return {}
        with translate_redis_errors():
            reports: list[bytes | None] = self._redis.mget([WORKER.format(name=name) for name in names])
        return {name: json.loads(report) for name, report in zip(names, reports, strict=True) if report}
