"""Event stream of a job, and the position at which it continues after a lost connection. Sends nothing itself."""

from typing import NamedTuple

import httpx
from httpx_sse import ServerSentEvent
from pydantic import ValidationError

from coreset.client.effects import RETRY_STATUS, Backoff
from coreset.client.responses import raise_for_problem
from coreset.schemas.events import EVENT, Ended, JobEvent

NO_CONTENT = 204


class StreamedEvent(NamedTuple):
    """An event, and the id after which the stream continues: for progress, that of the last milestone."""

    id: str
    event: JobEvent


class EventStream:
    """State of one caller's way through a job's events.

    Args:
        after: id of the last known event; empty begins at the first one.
        patience: seconds for which a lost connection is retried, counted from the last event.
    """

    def __init__(self, url: str, job_id: str, after: str, patience: float) -> None:
        self.path = f"/v1/jobs/{job_id}/events"
        self.ended = False
        self._after = after
        self._url, self._seconds = url, patience
        self._backoff = Backoff(url, patience)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the next request."""
        return {"Last-Event-ID": self._after} if self._after else {}

    def opened(self, answer: httpx.Response) -> bool:
        """Return whether events follow. Raises the problem of a rejection, whose body must have been read."""
        self.ended = answer.status_code == NO_CONTENT
        if answer.status_code not in RETRY_STATUS:
            raise_for_problem(answer)
        return answer.status_code == 200

    def receive(self, sent: ServerSentEvent) -> StreamedEvent | None:
        """Return the job event in a server-sent one; None if there is none, or one of a later service."""
        self._after = sent.id or self._after
        if not sent.data:
            return None
        try:
            event = EVENT.validate_json(sent.data, extra="ignore")
        except ValidationError:
            return None
        self.ended = isinstance(event, Ended)
        self._backoff = Backoff(self._url, self._seconds)
        return StreamedEvent(self._after, event)

    def pause_after(self, outcome: httpx.Response | httpx.TransportError) -> float:
        """Return the seconds until the next connection. Raises Unavailable when the patience is over."""
        return self._backoff.pause_after(outcome)
