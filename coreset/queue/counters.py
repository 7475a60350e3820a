"""Counters that all workers add to and any service reads for /metrics, and what each living worker says of itself.

They are in Redis, not in the workers: a worker needs no port, one address tells all of them, and what a worker has
counted is not lost with it. A counter begins again at 0 when Redis is wiped, which Prometheus knows how to read.

    field                 unit      adds
    jobs:{status}         jobs      store.transition, when the job has ended
    shards:{outcome}      shards    store.shard_done (scored, resumed), store.shard_failed (failed)
    samples:{status}      samples   store.shard_done, but for resumed shards; by SampleStatus, `ok` is scored
    attempts:{task}       attempts  a worker that begins a task; by the name of the task's function
    task_seconds:{task}   seconds   a worker that has ended an attempt
    failures:{task}       tasks     a worker that sees a task fail for good
    leases_expired        attempts  a worker that finds another one's lease run out
    worker_seconds:{what} seconds   each worker: how its time went, by coreset_workers.process.activity.DOING
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import structlog
from redis import Redis

from coreset.errors import Unavailable
from coreset.queue.job_store import TOTALS, WORKER, answering

log = structlog.get_logger("coreset.queue.counters")


class Totals:
    """Args:
    redis: a client from `coreset.queue.task_queue.connect`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = cast(Any, redis)  # redis-py's own types are partly unknown

    def add(self, amounts: Mapping[str, float]) -> bool:
        """Add to the counters. Returns whether it worked: work does not stop where it cannot be counted."""
        try:
            with answering(), self._redis.pipeline(transaction=True) as pipe:
                for field, amount in amounts.items():
                    pipe.hincrbyfloat(TOTALS, field, amount)
                pipe.execute()
        except Unavailable:
            log.warning("not counted", fields=sorted(amounts))
            return False
        return True

    def read(self) -> dict[str, float]:
        """Return all counters. Raises Unavailable."""
        with answering():
            found: dict[bytes, bytes] = self._redis.hgetall(TOTALS)
        return {field.decode(): float(value) for field, value in found.items()}

    def tell(self, worker: str, seconds: float, says: Mapping[str, Any]) -> None:
        """Keep what a worker says of itself for so many seconds. Raises Unavailable."""
        with answering():
            self._redis.set(WORKER.format(name=worker), json.dumps(says), px=max(1, int(1000 * seconds)))

    def told(self, workers: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what those of the workers say that have said something lately. Raises Unavailable."""
        names = list(workers)
        if not names:
            return {}
        with answering():
            found: list[bytes | None] = self._redis.mget([WORKER.format(name=name) for name in names])
        return {name: json.loads(says) for name, says in zip(names, found, strict=True) if says}
