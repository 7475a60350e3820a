"""Errors of Redis that an operator can end: why it cannot be reached, or takes no writes."""

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from coreset.errors import Unavailable

_CODES = {
    "OOM": "Redis is full (maxmemory); let it have more memory, or delete jobs",
    "READONLY": "Redis is a read-only replica; set CORESET_REDIS_URL to its primary",
    "NOREPLICAS": "Redis takes no writes because it has too few replicas (min-replicas-to-write)",
    "MISCONF": "Redis takes no writes because it cannot save to its disk; free space there",
    "NOPERM": "the user of CORESET_REDIS_URL lacks permissions in Redis",
    "WRONGPASS": "Redis refused the password of CORESET_REDIS_URL",
    "NOAUTH": "Redis asks for a password; put it into CORESET_REDIS_URL (redis://:PASSWORD@HOST:PORT/0)",
    "LOADING": "Redis is loading its data; try again in a few seconds",
    "CLUSTERDOWN": "the Redis cluster is down",
    "MASTERDOWN": "the primary of this Redis replica is down",
    "BUSY": "Redis is busy with a script; try again in a few seconds",
}
_TEXTS = {
    "command not allowed when used memory": "OOM",
    "You can't write against a read only": "READONLY",
    "invalid username-password pair": "WRONGPASS",
    "invalid password": "WRONGPASS",
    "Authentication required": "NOAUTH",
    "must be called with the client already authenticated": "NOAUTH",
    "called without any password configured": "WRONGPASS",
}
"""redis-py takes the code off the messages of errors that have a class of their own."""


def unavailable(error: RedisError) -> Unavailable | None:
    """Return the error as a cause and a way out; None if it is no state of Redis, but a fault of a command."""
    text = str(error)
    code = next((code for part, code in _TEXTS.items() if part in text), None)
    code = code or next((code for code in _CODES if code in text.replace(":", " ").split()), None)
    if code is None and isinstance(error, NoPermissionError):
        code = "NOPERM"
    if code is None and isinstance(error, AuthenticationError | AuthorizationError):
        code = "WRONGPASS"
    if code is not None:
        return Unavailable(_CODES[code], cause=code.lower())
    if isinstance(error, RedisConnectionError | RedisTimeoutError):
        return Unavailable("Redis does not answer; try again in a few seconds")
    return None
