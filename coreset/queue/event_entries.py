"""Entries of a job's event stream in Redis: how events are written and read.

An event is appended by the script that makes the change it reports (coreset/redis/lua), has an id, and can be read
again. Progress is not in the stream: it is a view of the job's record at the time of asking.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from coreset.schemas.events import EVENT, JobEvent
from coreset.schemas.job import TERMINAL, FailedShard, JobStatus, Reason

MAX_EVENTS = 1000
"""Events of a job that its stream keeps at least; the oldest are dropped first."""


class Milestone(NamedTuple):
    """A stored event, and its id in the job's stream: later ones have larger ids."""

    id: str
    event: JobEvent


class EventBatch(NamedTuple):
    """The events of a job after some id.

    Attributes:
        version: grows with every change of the job.
        complete: no event will follow these.
    """

    version: int
    status: JobStatus
    milestones: list[Milestone]
    complete: bool


def status_entry(status: JobStatus, reason: Reason | None = None) -> list[str]:
    """Return type and data of the entry for a new state."""
    data = {"status": status, "reason": reason.model_dump() if reason else None}
    return ["ended" if status in TERMINAL else "status", json.dumps(data)]


def warning_entry(text: str) -> list[str]:
    """Return type and data of the entry for a warning."""
    return ["warning", json.dumps({"text": text})]


def failure_entry(failure: FailedShard) -> list[str]:
    """Return type and data of the entry for a failed shard."""
    return ["shard_failed", failure.model_dump_json()]


def read_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Milestone:
    """Return an entry of the stream as an event. Its time is in its id, by Redis's clock."""
    milliseconds = int(entry_id.split(b"-")[0])
    data: dict[str, Any] = json.loads(fields[b"data"])
    event = {**data, "type": fields[b"type"].decode(), "at": datetime.fromtimestamp(milliseconds / 1000, UTC)}
    return Milestone(entry_id.decode(), EVENT.validate_python(event))
