"""Sessions of browsers: a random token in a cookie; Redis maps its hash to the API key's hash, never to the key."""

import hashlib
import secrets
from typing import Any, cast

from redis import Redis

from coreset.access.api_keys import ApiKey, Keyring
from coreset.redis.connection import translate_redis_errors

COOKIE = "coreset_session"
SESSION = "coreset:session:{digest}"
SESSION_SECONDS = 12 * 3600


class Sessions:
    """Starts, finds and ends sessions. All methods raise Unavailable if Redis does not answer.

    A session ends with its logout, after SESSION_SECONDS, or when its key leaves the keyring.
    """

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self._redis = cast(Any, redis)  # redis-py's own types are partly unknown
        self._keyring = keyring

    def start(self, key: ApiKey) -> str:
        """Return the token of a new session."""
        token = secrets.token_urlsafe(32)
        with translate_redis_errors():
            self._redis.set(_name(token), key.sha256, ex=SESSION_SECONDS)
        return token

    def find(self, token: str) -> ApiKey | None:
        """Return the key that the session was started with."""
        with translate_redis_errors():
            digest: bytes | None = self._redis.get(_name(token))
        return self._keyring.of_digest(digest.decode()) if digest else None

    def end(self, token: str) -> None:
        with translate_redis_errors():
            self._redis.delete(_name(token))


def _name(token: str) -> str:
    return SESSION.format(digest=hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest())
