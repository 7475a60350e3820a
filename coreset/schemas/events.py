"""What callers hear of a job while it runs: milestones from its stream, and the progress between them.

A milestone is written in the same script as the change it tells of (coreset/queue/scripts.py), has an id, and can be
asked for again. Progress is a view of the job's record at the time of asking: only the newest counts, so none is kept.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from coreset.schemas.job import TERMINAL, FailedShard, JobStatus, Progress, Reason
from coreset.spec.job import Strict


class StatusChanged(Strict):
    """The job has entered a state that is not its last."""

    type: Literal["status"] = "status"
    at: datetime
    status: JobStatus
    reason: Reason | None = None


class Progressed(Strict):
    """How far the job is now."""

    type: Literal["progress"] = "progress"
    at: datetime
    progress: Progress


class Warned(Strict):
    """A new warning of the job."""

    type: Literal["warning"] = "warning"
    at: datetime
    text: str


class ShardFailed(FailedShard):
    """A shard failed for good. One that another attempt mends later is gone from the job's own list."""

    type: Literal["shard_failed"] = "shard_failed"
    at: datetime


class Ended(Strict):
    """The job has ended, well or not. The last event."""

    type: Literal["ended"] = "ended"
    at: datetime
    status: JobStatus
    reason: Reason | None = None


JobEvent = Annotated[StatusChanged | Progressed | Warned | ShardFailed | Ended, Field(discriminator="type")]
EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


class Milestone(NamedTuple):
    """An event that is kept, and its id in the job's stream: later ones have larger ids."""

    id: str
    event: JobEvent


class News(NamedTuple):
    """What a job's stream holds after some id.

    Attributes:
        version: grows with every change of the job.
        complete: nothing will follow these milestones.
    """

    version: int
    status: JobStatus
    milestones: list[Milestone]
    complete: bool


def status_entry(status: JobStatus, reason: Reason | None = None) -> list[str]:
    """Return type and data of the stream's entry for a new state."""
    data = {"status": status, "reason": reason.model_dump() if reason else None}
    return ["ended" if status in TERMINAL else "status", json.dumps(data)]


def warning_entry(text: str) -> list[str]:
    return ["warning", json.dumps({"text": text})]


def failure_entry(failure: FailedShard) -> list[str]:
    return ["shard_failed", failure.model_dump_json()]


def read_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Milestone:
    """Return an entry of the stream as the milestone it tells of. Its time is in its id, by Redis's clock."""
    milliseconds = int(entry_id.split(b"-")[0])
    data: dict[str, Any] = json.loads(fields[b"data"])
    told = {**data, "type": fields[b"type"].decode(), "at": datetime.fromtimestamp(milliseconds / 1000, UTC)}
    return Milestone(entry_id.decode(), EVENT.validate_python(told))
