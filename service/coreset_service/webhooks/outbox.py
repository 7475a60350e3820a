"""Webhooks that are to be told: put there in the script that ends a job, and kept until they were told or given up.

Whoever sends takes a delivery on a lease. A sender that dies lets it run out, so a job's end is told at least once;
receivers know a repeated message by its id.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis

from coreset.queue.connection import translate_redis_errors
from coreset.queue.keys import DELIVERIES, DELIVERY
from coreset.queue.scripts import Scripts
from coreset.schemas.job import JobStatus, Reason


@dataclass(frozen=True)
class Delivery:
    """A job's end that somebody wants to be told of.

    Attributes:
        attempts: those before this one.
    """

    job_id: str
    url: str
    at: datetime
    status: JobStatus
    reason: Reason | None
    attempts: int


class Outbox:
    """All methods raise Unavailable when Redis does not answer.

    Args:
        redis: a client from `coreset.queue.task_queue.connect`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = cast(Any, redis)  # redis-py's own types are partly unknown
        self._scripts = Scripts(self._redis)

    def take(self, lease_seconds: float) -> Delivery | None:
        """Return a delivery that is due, and keep others from it for the time of the lease; None if there is none."""
        with translate_redis_errors():
            job_id = self._scripts.run("take_delivery", [DELIVERIES], [lease_seconds]).decode()
            if not job_id:
                return None
            key = DELIVERY.format(id=job_id)
            attempts = self._redis.hincrby(key, "attempts", 1) - 1
            fields: dict[bytes, bytes] = self._redis.hgetall(key)
        told = json.loads(fields[b"data"])
        return Delivery(
            job_id=job_id,
            url=fields[b"url"].decode(),
            at=datetime.fromtimestamp(float(fields[b"at"]), UTC),
            status=JobStatus(told["status"]),
            reason=Reason.model_validate(told["reason"]) if told["reason"] else None,
            attempts=attempts,
        )

    def postpone(self, job_id: str, seconds: float) -> None:
        """Let it be due again after these seconds."""
        with translate_redis_errors():
            self._scripts.run("postpone_delivery", [DELIVERIES], [job_id, seconds])

    def remove(self, job_id: str) -> None:
        """Take out what was told, or is given up."""
        with translate_redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(DELIVERIES, job_id)
            pipe.delete(DELIVERY.format(id=job_id))
            pipe.execute()

    def waiting(self) -> int:
        """Return how many are not told yet."""
        with translate_redis_errors():
            return int(self._redis.zcard(DELIVERIES))
