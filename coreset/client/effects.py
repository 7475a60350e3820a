"""What a client does, one thing after another: a flow yields steps, gets each one's outcome, and returns a value.

So what to send, when to try again and what an answer means is written once; how to send and to pause is the client's.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from coreset.client.responses import checked, retry_after
from coreset.errors import InvalidInput, Unavailable

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
RETRY_STATUS = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Ask:
    """Send a request. Outcome: the response, or the error of a lost connection. `options` are httpx's."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Tell:
    """Call the caller's function with the job; AsyncClient awaits what it returns, if that can be awaited."""

    listener: Callable[[Any], object]
    value: object


@dataclass(frozen=True)
class Work:
    """Call a function that blocks. Outcome: what it returns."""

    function: Callable[[], Any]


Step = Ask | Pause | Tell | Work
Value = TypeVar("Value")
Flow = Generator[Step, Any, Value]


class Patience:
    """How long to try again, and how long to pause before each try.

    Args:
        url: of the service, for the error.
        seconds: for which lost connections and answers of RETRY_STATUS are tried again.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE

    def pause_after(self, outcome: httpx.Response | httpx.TransportError) -> float:
        """Return the seconds to pause: what the service asks for, or twice the last pause.

        Raises:
            CoresetError: what the answer says, or Unavailable, when the pause would end after the time.
            InvalidInput: the URL is none.
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
            checked(outcome)
            raise Unavailable(f"{self._url} ended the answer before it was whole", url=self._url)
        raise Unavailable(f"no service answers at {self._url}; is `coreset up` running?", url=self._url) from outcome


def answered(url: str, patience: float, ask: Ask) -> Flow[httpx.Response]:
    """Ask until there is an answer that is not about the service's being away. All our requests may be repeated."""
    waiting = Patience(url, patience)
    while True:
        outcome = yield ask
        if isinstance(outcome, httpx.Response) and outcome.status_code not in RETRY_STATUS:
            return checked(outcome)
        yield Pause(waiting.pause_after(outcome))
