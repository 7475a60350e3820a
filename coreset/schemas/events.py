"""Events of a running job: changes of state, warnings and failed shards, and the progress between them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from coreset.schemas.job import FailedShard, JobStatus, Progress, Reason
from coreset.spec.base import FrozenModel


class StatusChanged(FrozenModel):
    """The job has entered a state that is not terminal."""

    type: Literal["status"] = "status"
    at: datetime
    status: JobStatus
    reason: Reason | None = None


class Progressed(FrozenModel):
    """The job's progress at this time."""

    type: Literal["progress"] = "progress"
    at: datetime
    progress: Progress


class Warned(FrozenModel):
    """The job has a new warning."""

    type: Literal["warning"] = "warning"
    at: datetime
    text: str


class ShardFailed(FailedShard):
    """A shard failed for good. If a later attempt succeeds, the job's own list drops it."""

    type: Literal["shard_failed"] = "shard_failed"
    at: datetime


class Ended(FrozenModel):
    """The job has ended. The last event."""

    type: Literal["ended"] = "ended"
    at: datetime
    status: JobStatus
    reason: Reason | None = None


JobEvent = Annotated[StatusChanged | Progressed | Warned | ShardFailed | Ended, Field(discriminator="type")]
EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)
