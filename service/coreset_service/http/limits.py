"""What one caller may take of the service: requests and bytes a minute, requests and costly answers at a time."""

import ipaddress
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from coreset.errors import TooManyRequests

MAX_AT_ONCE = 200
"""Requests in progress of one caller, long polls and event streams among them."""
COSTLY_AT_ONCE = 8
"""Costly answers that are computed at the same time, of all callers."""
COSTLY_OF_ONE = 2
"""Those of one caller; its others wait."""
COSTLY_WAITING = 32
"""Costly requests of one caller that may wait; more are answered with 429."""


class Rates:
    """Requests and body bytes a minute, by caller; each process counts its own.

    Args:
        requests: of a key; without a valid one, failures of an address.
        body_bytes: of a caller.
    """

    def __init__(self, requests: int, body_bytes: int) -> None:
        self._requests = RateLimitItemPerMinute(requests)
        self._bytes = RateLimitItemPerMinute(body_bytes)
        storage = MemoryStorage()
        self._moving = MovingWindowRateLimiter(storage)
        self._fixed = FixedWindowRateLimiter(storage)

    def count_request(self, kind: str, name: str) -> None:
        """Raises TooManyRequests."""
        if not self._moving.hit(self._requests, kind, name):
            opens_at = self._moving.get_window_stats(self._requests, kind, name).reset_time
            raise _too_many(self._requests, "requests", opens_at)

    def count_bytes(self, caller: str, size: int) -> None:
        """Raises TooManyRequests."""
        if size and not self._fixed.hit(self._bytes, "bytes", caller, cost=size):
            opens_at = self._fixed.get_window_stats(self._bytes, "bytes", caller).reset_time
            raise _too_many(self._bytes, "bytes of request bodies", opens_at)


class AtOnce:
    """Counts what each caller has in progress."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one_of(self, caller: str) -> Generator[None]:
        """Count one until the block ends. Raises TooManyRequests."""
        if self._counts[caller] >= self._limit:
            raise TooManyRequests(
                f"{self._limit} requests of this caller are in progress; wait for the end of one", retry_after=1
            )
        self._counts[caller] += 1
        try:
            yield
        finally:
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]


class Costly:
    """Takes turns at answers that cost seconds or gigabytes, so that one caller's do not delay another's.

    Make it in the event loop that uses it.
    """

    def __init__(self) -> None:
        self._all = anyio.CapacityLimiter(COSTLY_AT_ONCE)
        self._waiting = AtOnce(COSTLY_OF_ONE + COSTLY_WAITING)
        self._turns: dict[str, anyio.CapacityLimiter] = {}

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncGenerator[None]:
        """Wait for a turn. Raises TooManyRequests if too many requests of the caller wait already."""
        with self._waiting.one_of(caller):
            own = self._turns.setdefault(caller, anyio.CapacityLimiter(COSTLY_OF_ONE))
            token = object()
            await own.acquire_on_behalf_of(token)
            try:
                async with _held(self._all, token):
                    yield
            finally:
                own.release_on_behalf_of(token)
                if not own.borrowed_tokens and not own.statistics().tasks_waiting:
                    self._turns.pop(caller, None)


@asynccontextmanager
async def _held(limiter: anyio.CapacityLimiter, token: object) -> AsyncGenerator[None]:
    await limiter.acquire_on_behalf_of(token)
    try:
        yield
    finally:
        limiter.release_on_behalf_of(token)


def network_of(address: str) -> str:
    """Return the address that failures are counted for: of IPv6 the /64, which one machine has as a whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, ipaddress.IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _too_many(limit: RateLimitItem, what: str, opens_at: float) -> TooManyRequests:
    wait = max(1, math.ceil(opens_at - time.time()))
    return TooManyRequests(f"more than {limit.amount:,} {what} in a minute; ask again in {wait} s", retry_after=wait)
