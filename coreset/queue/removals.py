"""Jobs that are due for deletion, and deleted jobs whose files still exist."""

from typing import Any

from coreset.redis.connection import text, translate_redis_errors
from coreset.redis.keys import EXPIRIES, REMOVALS


class Removals:
    """Deleted jobs whose files must still be removed. All methods raise Unavailable when Redis does not answer."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def expired(self) -> list[str]:
        """Return the jobs whose time to live has passed."""
        with translate_redis_errors():
            seconds, _ = self._redis.time()
            return [text(member) for member in self._redis.zrange(EXPIRIES, "-inf", seconds, byscore=True)]

    def pending(self) -> list[str]:
        """Return the deleted jobs whose files still exist, oldest first."""
        with translate_redis_errors():
            return [text(member) for member in self._redis.zrange(REMOVALS, 0, -1)]

    def complete(self, job_id: str) -> None:
        """Record that the files of a deleted job are gone."""
        with translate_redis_errors():
            self._redis.zrem(REMOVALS, job_id)
