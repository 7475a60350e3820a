"""A job's state where no store keeps it: the same fields, so that progress, rate and time left are the service's."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from coreset.queue.progress import STAGES, Running, progress_of
from coreset.schemas.job import FailedShard, Job, JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.spec.job import JobSpec

Tell = Callable[[Job], None]


class Watch:
    """Counts what happens to a job, and tells the job after each change.

    Args:
        device: what it computes on.
    """

    def __init__(self, job_id: str, spec: JobSpec, tell: Tell, device: str) -> None:
        now = datetime.now(UTC)
        self.job = Job(id=job_id, status=JobStatus.QUEUED, spec=spec, created_at=now, started_at=now)
        self._tell = tell
        self._device = device
        self._record: dict[str, str] = {} if spec.evaluate is None else {"evaluates": "1"}
        self._running: list[Running] = []

    def enter(self, status: JobStatus) -> None:
        self._record |= {f"{status.value}_at": str(time.time()), "stage": STAGES[status]}
        self._changed(status=status)

    def planned(self, plan_id: str, shards: int, warnings: list[str]) -> None:
        self._record["shards_total"] = str(shards)
        self._changed(plan_id=plan_id, warnings=warnings)

    def stage(self, stage: str, fraction: float) -> None:
        """Say what preparing or reducing is at, and how far it is, 0 to 1."""
        phase = "reduce" if self.job.status is JobStatus.REDUCING else "prepare"
        self._record |= {"stage": stage, f"{phase}_fraction": str(fraction)}
        self._changed()

    def shard_advanced(self, fraction: float) -> None:
        self._running = [Running(time.time(), fraction)]
        self._changed()

    def shard_done(self, summary: ShardSummary, resumed: bool) -> None:
        """Count a shard; `resumed` are those whose part was there already."""
        self._running = []
        self._add("shards_done", 1)
        self._add("samples_read", summary.read)
        self._add("samples_scored", summary.scored)
        for reason, count in summary.bad.items():
            self._add(f"bad:{reason}", count)
        if resumed:
            self._add("shards_resumed", 1)
            self._add("samples_resumed", summary.scored)
        self._changed()

    def finished(self, duplicates: int, warnings: list[str]) -> None:
        """Record the number of duplicates, and warnings that only the whole pool gives rise to."""
        self._record["samples_duplicates"] = str(duplicates)
        self._changed(warnings=[*self.job.warnings, *warnings])

    def shard_failed(self, shard: int, uri: str, message: str) -> None:
        self._running = []
        self._add("shards_failed", 1)
        failure = FailedShard(shard=shard, uri=uri, message=message)
        self._changed(failed_shards=[*self.job.failed_shards, failure])

    def _add(self, field: str, count: int) -> None:
        self._record[field] = str(int(self._record.get(field, 0)) + count)

    def _changed(self, **changes: object) -> None:
        self.job = self.job.model_copy(update=changes)
        progress = progress_of(self.job.status, self._record, self._running, [self._device], time.time())
        self.job = self.job.model_copy(update={"progress": progress})
        self._tell(self.job)
