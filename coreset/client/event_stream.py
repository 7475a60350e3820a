"""A job's events from the service's stream, and where to go on after a lost connection. Sends nothing itself."""

from typing import NamedTuple

import httpx
from pydantic import ValidationError

from coreset.client.effects import RETRY_STATUS, Patience
from coreset.client.responses import checked
from coreset.schemas.events import EVENT, Ended, JobEvent

NO_CONTENT = 204


class Told(NamedTuple):
    """An event, and the id after which the stream goes on: its own, or for progress that of the last before it."""

    id: str
    event: JobEvent


class Listening:
    """One caller's way through a job's stream.

    Args:
        after: the id of the last event that is known; empty begins at the first one.
        patience: seconds for which a lost connection is tried again, anew after each event.
    """

    def __init__(self, url: str, job_id: str, after: str, patience: float) -> None:
        self.path = f"/v1/jobs/{job_id}/events"
        self.ended = False
        self._after = after
        self._url, self._seconds = url, patience
        self._patience = Patience(url, patience)
        self._fields: dict[str, str] = {}

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._after} if self._after else {}

    def opened(self, answer: httpx.Response) -> bool:
        """Say whether events follow. Raises what a refusal says; its body must have been read."""
        self.ended = answer.status_code == NO_CONTENT
        if answer.status_code not in RETRY_STATUS:
            checked(answer)
        return answer.status_code == 200

    def hear(self, line: str) -> Told | None:
        """Take a line of the stream; return the event that it ends, if it ends one. Unknown events are left out."""
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        self._after = fields.get("id", self._after)
        if "data" not in fields:
            return None
        try:
            event = EVENT.validate_json(fields["data"], extra="ignore")
        except ValidationError:  # of a later service
            return None
        self.ended = isinstance(event, Ended)
        self._patience = Patience(self._url, self._seconds)
        return Told(self._after, event)

    def pause_after(self, outcome: httpx.Response | httpx.TransportError) -> float:
        """Return the seconds until the next try, after a lost or ended stream. Raises when the patience is over."""
        self._fields = {}
        return self._patience.pause_after(outcome)
