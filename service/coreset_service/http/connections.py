"""Connections with deadlines and a cap, for a uvicorn that no proxy protects.

uvicorn limits neither the time that a request's head takes nor the number of connections that have not sent one.
"""

import asyncio
import logging
import resource
import time
from collections import Counter
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 1000
HEAD_SECONDS = 10.0
"""From the connection, or the first byte after an answer, to the end of a request's head."""
WRITE_SECONDS = 60.0
"""Time in which a client must read something of an answer that fills the buffers."""
READ_BYTES = 64 * 1024
"""Bytes that asyncio reads of a connection at a time; its default is four times as many, kept for each connection."""
MAX_OPEN_FILES = 65_536
REPEAT_SECONDS = 10.0
"""Pause before the same warning of uvicorn or asyncio is logged again."""
BACKLOG = 128
"""Connections accepted in one turn of the event loop: all of them are open before the first can be closed."""


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on one connection.

    At `max_connections`, a new connection closes the oldest one without a request in progress, of the address that has
    most of these. If each connection has a request in progress, the new one is closed.
    """

    max_connections: ClassVar[int] = MAX_CONNECTIONS
    opened_at: float
    _head: asyncio.TimerHandle | None = None
    _write: asyncio.TimerHandle | None = None

    @property
    def serving(self) -> bool:
        """Whether a request is in progress: its head is complete, its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.max_size = READ_BYTES
        self.opened_at = time.monotonic()
        self._watch_head()
        if len(self.connections) > self.max_connections:
            _close_one(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head(start=False)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write = self._write or self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write = _stopped(self._write)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._write = _stopped(self._head), _stopped(self._write)
        super().connection_lost(exc)

    def _watch_head(self, start: bool = True) -> None:
        """Let the time of a head run while none is complete; more bytes of it do not prolong it."""
        if self.serving or self.transport.is_closing():
            self._head = _stopped(self._head)
        elif start and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)


def bounded(max_connections: int) -> type[BoundedProtocol]:
    """Return the protocol with a cap of its own."""
    return type("BoundedProtocol", (BoundedProtocol,), {"max_connections": max_connections})


def _close_one(new: BoundedProtocol) -> None:
    """Close a connection unless enough are about to be closed: those leave the set one turn of the loop later."""
    connections = [one for one in cast(set[BoundedProtocol], new.connections) if not one.transport.is_closing()]
    if len(connections) <= new.max_connections:
        return
    idle = [one for one in connections if one is not new and not one.serving]
    per_address = Counter(_address(one) for one in idle)
    oldest = min(idle, key=lambda one: (-per_address[_address(one)], one.opened_at), default=new)
    oldest.transport.abort()


def _address(connection: BoundedProtocol) -> str:
    return connection.client[0] if connection.client else ""


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def raise_file_limit() -> int:
    """Raise the process's soft limit of open files as far as it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft


class OnceInAWhile(logging.Filter):
    """Lets each message of a logger pass once in REPEAT_SECONDS, with the number of those left out meanwhile.

    Callers cause these lines: broken requests (uvicorn), and more connections than files may be open (asyncio).
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text, now = str(record.msg)[:100], time.monotonic()
        if now - self._passed.get(text, float("-inf")) < REPEAT_SECONDS:
            self._left_out[text] += 1
            return False
        self._passed[text] = now
        if left_out := self._left_out.pop(text, 0):
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like this were not logged)", ()
        return True


def quieten() -> None:
    """Rate-limit the warnings that callers cause in other libraries' logs."""
    for name in ("asyncio", "uvicorn.error"):
        logging.getLogger(name).addFilter(OnceInAWhile())
