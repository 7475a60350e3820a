"""Transactional outbox of webhook deliveries: filled by the script that ends a job, emptied by the sender.

A sender takes a delivery on a lease. If the sender dies the lease runs out, so each delivery is sent at least once;
receivers recognise a repeated message by its id.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis

from coreset.queue import scripts as lua
from coreset.queue.job_store import DELIVERIES, DELIVERY, answering
from coreset.schemas.job import JobStatus, Reason


@dataclass(frozen=True)
class Delivery:
    """The end of a job, and the URL to send it to.

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
        self._take = self._redis.register_script(lua.TAKE_DELIVERY)
        self._postpone = self._redis.register_script(lua.POSTPONE_DELIVERY)

    def take(self, lease_seconds: float) -> Delivery | None:
        """Return a delivery that is due, and keep others from it for the time of the lease; None if there is none."""
        with answering():
            job_id = self._take(keys=[DELIVERIES], args=[lease_seconds]).decode()
            if not job_id:
                return None
            key = DELIVERY.format(id=job_id)
            attempts = self._redis.hincrby(key, "attempts", 1) - 1
            fields: dict[bytes, bytes] = self._redis.hgetall(key)
        ended = json.loads(fields[b"data"])
        return Delivery(
            job_id=job_id,
            url=fields[b"url"].decode(),
            at=datetime.fromtimestamp(float(fields[b"at"]), UTC),
            status=JobStatus(ended["status"]),
            reason=Reason.model_validate(ended["reason"]) if ended["reason"] else None,
            attempts=attempts,
        )

    def postpone(self, job_id: str, seconds: float) -> None:
        """Let it be due again after these seconds."""
        with answering():
            self._postpone(keys=[DELIVERIES], args=[job_id, seconds])

    def put_back(self, job_id: str, seconds: float) -> None:
        """Let a delivery that was taken, but not tried, be due again after these seconds."""
        with answering():
            self._redis.hincrby(DELIVERY.format(id=job_id), "attempts", -1)
        self.postpone(job_id, seconds)

    def remove(self, job_id: str) -> None:
        """Remove a delivery that was sent, or is given up."""
        with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(DELIVERIES, job_id)
            pipe.delete(DELIVERY.format(id=job_id))
            pipe.execute()

    def waiting(self) -> int:
        """Return the number of deliveries that are waiting."""
        with answering():
            return int(self._redis.zcard(DELIVERIES))
