"""Locks that expire by themselves, for work that one process at a time should do."""

from typing import Any

from coreset.redis.connection import translate_redis_errors
from coreset.redis.keys import LOCK


class Locks:
    """All methods raise Unavailable when Redis does not answer."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def acquire(self, name: str, seconds: float) -> bool:
        """Take the lock for some seconds, unless it is taken. Return whether the caller has it."""
        with translate_redis_errors():
            return bool(self._redis.set(LOCK.format(name=name), "taken", nx=True, px=max(1, int(1000 * seconds))))

    def taken(self, name: str) -> bool:
        """Return whether anyone has the lock."""
        with translate_redis_errors():
            return bool(self._redis.exists(LOCK.format(name=name)))

    def release(self, name: str) -> None:
        """Give the lock back before it expires."""
        with translate_redis_errors():
            self._redis.delete(LOCK.format(name=name))
