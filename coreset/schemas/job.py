"""A job as callers see it: status, progress, and the transitions between its states."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from coreset.spec.base import FrozenModel
from coreset.spec.job import JobSpec


class JobStatus(StrEnum):
    QUEUED = "queued"  # accepted; no worker has taken it yet
    PREPARING = "preparing"  # a worker plans it: shards, checkpoints, reference batch, directions
    SCORING = "scoring"  # shard tasks are on the queue
    REDUCING = "reducing"  # every shard has an outcome; selection, report and manifest are made
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"  # a caller cancelled it; running tasks stop at their next batch
    CANCELLED = "cancelled"
    UNREADABLE = "unreadable"  # shown, never stored: this version cannot read the record; another one may


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PREPARING, JobStatus.FAILED, JobStatus.CANCELLING}),
    JobStatus.PREPARING: frozenset({JobStatus.SCORING, JobStatus.FAILED, JobStatus.CANCELLING}),
    JobStatus.SCORING: frozenset({JobStatus.REDUCING, JobStatus.FAILED, JobStatus.CANCELLING}),
    JobStatus.REDUCING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLING}),
    JobStatus.CANCELLING: frozenset({JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""The stored states, and the steps between them."""

TERMINAL = frozenset(status for status, after in TRANSITIONS.items() if not after)


class Reason(FrozenModel):
    """Why a job is in its state: a stable code and a sentence."""

    code: str
    message: str


class ShardCounts(FrozenModel):
    total: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0


class SampleCounts(FrozenModel):
    """Samples of the shards that are complete.

    Attributes:
        read: all samples, the scored and the bad ones.
        duplicates: scored samples whose uid an earlier sample has; counted when all shards are complete.
        bad: number of bad samples by SampleStatus.
    """

    read: int = 0
    scored: int = 0
    duplicates: int = 0
    bad: dict[str, int] = Field(default_factory=dict)


class Progress(FrozenModel):
    """How far a job is.

    Attributes:
        stage: the present step, in words.
        fraction: finished share of the whole job, 0 to 1.
        samples_per_second: samples scored per second of scoring so far.
        eta_seconds: estimated time until the end of scoring.
        devices: devices that the job's workers compute on.
    """

    stage: str = "queued"
    fraction: float = 0.0
    shards: ShardCounts = ShardCounts()
    samples: SampleCounts = SampleCounts()
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    devices: list[str] = Field(default_factory=list)


class FailedShard(FrozenModel):
    shard: int
    uri: str
    message: str


class Job(FrozenModel):
    """A job, the body of every response about one.

    Attributes:
        expires_at: time at which an ended job is deleted, if its spec asks for it.
    """

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    reason: Reason | None = None
    spec: JobSpec
    plan_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    progress: Progress = Progress()
    failed_shards: list[FailedShard] = Field(default_factory=list[FailedShard])
    warnings: list[str] = Field(default_factory=list)
    links: dict[str, str] = Field(default_factory=dict)


class JobPage(FrozenModel):
    jobs: list[Job]
    next_page_token: str | None = None
