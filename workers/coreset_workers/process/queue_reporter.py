"""Reporter of a served job: state and progress in the job store, progress marks for the lease."""

import time

from coreset.queue.job_store import JobStore
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan
from coreset_workers.process.lease import mark_progress

UPDATE_SECONDS = 0.5
"""Least time between two updates of a running shard, trial or training, and between two checks for a cancel."""


class Cancelled(Exception):
    """The job was cancelled. The stage stops where it is; files that it has written stay."""


class QueueReporter:
    """Reports one task of a job to the job store. Raises Unavailable if Redis does not answer."""

    def __init__(self, store: JobStore, job_id: str) -> None:
        self._store = store
        self._job_id = job_id
        self._updated = time.monotonic()

    def enter(self, status: JobStatus) -> Job:
        return self._store.transition(self._job_id, status)

    def warn(self, warning: str) -> None:
        self._store.warn(self._job_id, warning)

    def heartbeat(self) -> None:
        mark_progress()

    def check_cancelled(self) -> None:
        if self._store.cancel_requested(self._job_id):
            raise Cancelled(self._job_id)

    def stage(self, stage: str, fraction: float) -> None:
        mark_progress()
        self.check_cancelled()
        self._store.set_stage(self._job_id, stage, fraction)

    def stage_advanced(self, stage: str, fraction: float) -> None:
        if self._due():
            self._store.set_stage(self._job_id, stage, fraction)

    def planned(self, plan: Plan) -> None:
        self._store.set_plan(self._job_id, plan.id, len(plan.shards))

    def shard_started(self, shard: int, device: str) -> None:
        self._updated = time.monotonic()
        self._store.shards.start(self._job_id, shard, device)

    def shard_advanced(self, shard: int, fraction: float) -> None:
        if self._due():
            self._store.shards.advance(self._job_id, shard, fraction)

    def shard_done(self, summary: ShardSummary, resumed: bool) -> None:
        self._store.shards.finish(self._job_id, summary, resumed)

    def shard_failed(self, shard: int, uri: str, message: str) -> None:
        self._store.shards.fail(self._job_id, shard, uri, message)

    def duplicates(self, duplicates: int) -> None:
        self._store.set_duplicates(self._job_id, duplicates)

    def trial_advanced(self, trial: int, fraction: float, trials: int) -> None:
        if fraction == 1.0 or self._due():
            self._store.task_counts.advance_trial(self._job_id, trial, fraction, trials)

    def _due(self) -> bool:
        """Mark progress, and return whether it is time for an update; then also check for a cancel."""
        mark_progress()
        if time.monotonic() - self._updated < UPDATE_SECONDS:
            return False
        self._updated = time.monotonic()
        self.check_cancelled()
        return True
