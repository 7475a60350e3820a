"""Connections to Redis, and its errors as ours."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from coreset.redis.errors import unavailable


def connect(url: str, patience: int = 30) -> Redis:
    """Return a client that survives a restart of Redis.

    Args:
        patience: tries after a lost connection, at most 2 s apart. Workers wait long (30: about a minute); the service
            answers its caller sooner.
    """
    from_url = cast(Any, Redis.from_url)  # pyright: ignore[reportUnknownMemberType]
    return from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=2, base=0.2), patience),
        retry_on_error=[RedisConnectionError, RedisTimeoutError, BusyLoadingError],
        socket_connect_timeout=5,
        health_check_interval=30,
    )


@contextmanager
def translate_redis_errors() -> Generator[None]:
    """Raise Unavailable, with the cause, for a Redis that cannot be reached or takes no writes."""
    try:
        yield
    except RedisError as error:
        translated = unavailable(error)
        if translated is None:
            raise
        raise translated from error


def text(value: Any) -> str:
    """Return an answer of Redis as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
