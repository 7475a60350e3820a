"""Stream of a job's events, as Server-Sent Events."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool

from coreset.errors import NotFound, Unavailable
from coreset.queue.event_entries import EventBatch
from coreset.schemas.events import JobEvent, Progressed
from coreset.schemas.job import JobStatus
from coreset_service.api_docs import examples
from coreset_service.dependencies import Context, Ctx, JobId

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 2000

EventId = Annotated[
    str | None,
    Header(pattern=r"^\d{1,19}-\d{1,19}$", description="id of the last known event; the stream continues after it"),
]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    **examples.PROBLEMS,
    200: {"description": "The events", "content": {"text/event-stream": {"example": examples.EVENTS}}},
    204: {"description": "The job has ended, and Last-Event-ID is its last event"},
}


@router.get("/{job_id}/events", response_class=Response, responses=_ANSWERS)
async def get_events(context: Ctx, job_id: JobId, last_event_id: EventId = None) -> Response:
    """Follow a job until it has ended.

    `status`, `warning` and `shard_failed` have an id; the stream begins with the first of them, or after
    `Last-Event-ID`. `progress` has no id: it is the newest state, sent once a second at most and only if it has
    changed. `ended` is the last event, after which the connection is closed. A comment follows 15 silent seconds.
    """
    news = await run_in_threadpool(context.store.events, job_id, last_event_id or "0-0")
    if last_event_id and news.complete and not news.milestones:
        return Response(status_code=204)  # a browser then stops reconnecting
    sender = EventSender(context, job_id, last_event_id or "0-0")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventSourceResponse(sender.stream(), headers=headers)


@dataclass
class EventSender:
    """One open stream, and the position that its caller has reached."""

    context: Context
    job_id: str
    after: str
    version: int = -1
    progress_at: float = field(default=float("-inf"))
    ended: bool = False

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the encoded events until the job has ended."""
        yield format_sse_event(retry=RETRY_MILLISECONDS)
        sent_at = time.monotonic()
        while not self.ended:
            new = await run_in_threadpool(self.poll)
            if new or time.monotonic() - sent_at >= HEARTBEAT_SECONDS:
                sent_at = time.monotonic()
                yield b"".join(new) or format_sse_event(comment="nothing new")
            if not self.ended:
                await anyio.sleep(POLL_SECONDS)

    def poll(self) -> list[bytes]:
        """Return the new events, encoded. During an outage of Redis there are none: a browser does not retry a 503."""
        try:
            news = self.context.store.events(self.job_id, self.after)
            if news.status is JobStatus.CANCELLING:
                self.context.queue.finish_cancel(self.job_id)
            progress = self._progress(news)
        except Unavailable:
            return []
        except NotFound:  # deleted since
            self.ended = True
            return []
        return self._encode(news, progress)

    def _progress(self, news: EventBatch) -> list[bytes]:
        due = news.complete or time.monotonic() - self.progress_at >= PROGRESS_SECONDS
        if news.version == self.version or not due:
            return []
        self.version, self.progress_at = news.version, time.monotonic()
        job = self.context.store.get(self.job_id)
        return [_encoded(Progressed(at=job.ended_at or datetime.now(UTC), progress=job.progress))]

    def _encode(self, news: EventBatch, progress: list[bytes]) -> list[bytes]:
        self.ended = news.complete
        self.after = news.milestones[-1].id if news.milestones else self.after
        milestones = [_encoded(event, event_id) for event_id, event in news.milestones]
        return [*milestones[:-1], *progress, *milestones[-1:]] if news.complete else milestones + progress


def _encoded(event: JobEvent, event_id: str | None = None) -> bytes:
    return format_sse_event(data_str=event.model_dump_json(), event=event.type, id=event_id)
