"""Effects of a client operation: what to send, when to retry and what an answer means, written once for both clients.

An operation is a generator that yields effects, receives the outcome of each, and returns a value. Client and
AsyncClient only perform the effects. Generating one client from the other's source would need a build step and a second
copy in the repository for the same result: what the two repeat is one line per method, whose signatures editors read.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from coreset.client.responses import raise_for_problem, retry_after
from coreset.errors import InvalidInput, Unavailable

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
RETRY_STATUS = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class SendRequest:
    """Send a request. Outcome: the response, or the error of a lost connection. `options` are those of httpx."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Sleep:
    """Sleep for some seconds."""

    seconds: float


@dataclass(frozen=True)
class CallListener:
    """Call the caller's function; AsyncClient awaits its result if that is awaitable."""

    listener: Callable[[Any], object]
    value: object


@dataclass(frozen=True)
class CallBlocking:
    """Call a function that blocks. Outcome: its result."""

    function: Callable[[], Any]


Effect = SendRequest | Sleep | CallListener | CallBlocking
Value = TypeVar("Value")
Operation = Generator[Effect, Any, Value]


class Backoff:
    """Pauses before the next attempts, until the patience is over.

    Args:
        url: of the service, for the error.
        seconds: how long lost connections and answers of RETRY_STATUS are retried.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE

    def pause_after(self, outcome: httpx.Response | httpx.TransportError) -> float:
        """Return the seconds until the next attempt: what the service asks for, or twice the last pause.

        Raises:
            InvalidInput: the URL has no known scheme.
            CoresetError: the problem in the answer, or Unavailable, if the pause would end after the deadline.
        """
        if isinstance(outcome, httpx.UnsupportedProtocol):
            raise InvalidInput(f"{self._url} is not the URL of a service; write http://HOST:PORT") from outcome
        pause = max(self._pause, retry_after(outcome) if isinstance(outcome, httpx.Response) else 0.0)
        if time.monotonic() + pause > self._deadline:
            self._give_up(outcome)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return pause

    def _give_up(self, outcome: httpx.Response | httpx.TransportError) -> None:
        if isinstance(outcome, httpx.Response):
            raise_for_problem(outcome)
            raise Unavailable(f"{self._url} closed the connection before the answer was complete", url=self._url)
        raise Unavailable(f"no service answers at {self._url}; is `coreset up` running?", url=self._url) from outcome


def send_with_retries(url: str, patience: float, request: SendRequest) -> Operation[httpx.Response]:
    """Send a request until its answer is final. All our requests may be repeated safely."""
    backoff = Backoff(url, patience)
    while True:
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.status_code not in RETRY_STATUS:
            return raise_for_problem(outcome)
        yield Sleep(backoff.pause_after(outcome))
