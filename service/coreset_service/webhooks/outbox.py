"""Transactional outbox of webhook deliveries: added by the script that ends a job, removed when sent or given up.

A sender takes a delivery under a lease. If it dies, the lease expires and another one sends the message. So each is
delivered at least once; receivers recognise a repeated one by its id.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis

from coreset.redis.connection import translate_redis_errors
from coreset.redis.keys import DELIVERIES, DELIVERY
from coreset.redis.scripts import Scripts
from coreset.schemas.job import JobStatus, Reason


@dataclass(frozen=True)
class Delivery:
    """A job's end to be delivered to a URL.

    Attributes:
        at: time of the job's end.
        attempts: number of earlier attempts.
    """

    job_id: str
    url: str
    at: datetime
    status: JobStatus
    reason: Reason | None
    attempts: int


class Outbox:
    """Deliveries in Redis. All methods raise Unavailable if Redis does not answer.

    Args:
        redis: a client from `coreset.redis.connection.connect`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = cast(Any, redis)  # redis-py's own types are partly unknown
        self._scripts = Scripts(self._redis)

    def take(self, lease_seconds: float) -> Delivery | None:
        """Lease the next delivery that is due; None if there is none."""
        with translate_redis_errors():
            job_id = self._scripts.run("take_delivery", [DELIVERIES], [lease_seconds]).decode()
            if not job_id:
                return None
            key = DELIVERY.format(id=job_id)
            attempts = self._redis.hincrby(key, "attempts", 1) - 1
            fields: dict[bytes, bytes] = self._redis.hgetall(key)
        outcome = json.loads(fields[b"data"])
        return Delivery(
            job_id=job_id,
            url=fields[b"url"].decode(),
            at=datetime.fromtimestamp(float(fields[b"at"]), UTC),
            status=JobStatus(outcome["status"]),
            reason=Reason.model_validate(outcome["reason"]) if outcome["reason"] else None,
            attempts=attempts,
        )

    def postpone(self, job_id: str, seconds: float) -> None:
        """Make a delivery due again after some seconds."""
        with translate_redis_errors():
            self._scripts.run("postpone_delivery", [DELIVERIES], [job_id, seconds])

    def put_back(self, job_id: str, seconds: float) -> None:
        """Make a delivery that was taken, but not attempted, due again after some seconds."""
        with translate_redis_errors():
            self._redis.hincrby(DELIVERY.format(id=job_id), "attempts", -1)
        self.postpone(job_id, seconds)

    def remove(self, job_id: str) -> None:
        """Remove a delivery that succeeded or was given up."""
        with translate_redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(DELIVERIES, job_id)
            pipe.delete(DELIVERY.format(id=job_id))
            pipe.execute()

    def waiting(self) -> int:
        """Return the number of deliveries in the outbox."""
        with translate_redis_errors():
            return int(self._redis.zcard(DELIVERIES))
