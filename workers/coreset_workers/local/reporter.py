"""Reporter of a local job: keeps the fields that the job store keeps, so that progress and rates mean the same."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from coreset.queue.progress import FINISH_SHARE, STAGES, Running, kinds_of, progress_of
from coreset.schemas.job import FailedShard, Job, JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec

OnChange = Callable[[Job], None]


class LocalReporter:
    """Keeps the job's state in memory and passes the job on after each change. It is never cancelled.

    Args:
        on_change: called with the job after each change.
    """

    def __init__(self, job_id: str, spec: JobSpec, on_change: OnChange) -> None:
        now = datetime.now(UTC)
        self.job = Job(id=job_id, status=JobStatus.QUEUED, spec=spec, created_at=now, started_at=now)
        self._on_change = on_change
        self._devices: list[str] = []
        self._record = kinds_of(spec)
        self._running: list[Running] = []

    def enter(self, status: JobStatus) -> Job:
        self._record |= {f"{status.value}_at": str(time.time()), "stage": STAGES[status]}
        self._change(status=status)
        return self.job

    def warn(self, warning: str) -> None:
        if warning not in self.job.warnings:
            self._change(warnings=[*self.job.warnings, warning])

    def heartbeat(self) -> None:
        """Do nothing: no lease depends on it."""

    def check_cancelled(self) -> None:
        """Do nothing: an interrupt ends the process."""

    def stage(self, stage: str, fraction: float) -> None:
        phase = "reduce" if self.job.status is JobStatus.REDUCING else "prepare"
        self._record |= {"stage": stage, f"{phase}_fraction": str(fraction)}
        self._change()

    def stage_advanced(self, stage: str, fraction: float) -> None:
        self.stage(stage, fraction)

    def planned(self, plan: Plan) -> None:
        self._record["shards_total"] = str(len(plan.shards))
        self._change(plan_id=plan.id)

    def shard_started(self, shard: int, device: str) -> None:
        self._devices = [device]
        self.shard_advanced(shard, 0.0)

    def shard_advanced(self, shard: int, fraction: float) -> None:
        self._running = [Running(time.time(), fraction)]
        self._change()

    def shard_done(self, summary: ShardSummary, resumed: bool) -> None:
        self._running = []
        self._add("shards_done", 1)
        self._add("samples_read", summary.read)
        self._add("samples_scored", summary.scored)
        for reason, count in summary.bad.items():
            self._add(f"bad:{reason}", count)
        if resumed:
            self._add("shards_resumed", 1)
            self._add("samples_resumed", summary.scored)
        self._change()

    def shard_failed(self, shard: int, uri: str, message: str) -> None:
        self._running = []
        self._add("shards_failed", 1)
        failure = FailedShard(shard=shard, uri=uri, message=message)
        self._change(failed_shards=[*self.job.failed_shards, failure])

    def duplicates(self, duplicates: int) -> None:
        self._record["samples_duplicates"] = str(duplicates)
        self._change()

    def trial_advanced(self, trial: int, fraction: float, trials: int) -> None:
        done = FINISH_SHARE + (1 - FINISH_SHARE) * (trial + fraction) / trials
        self.stage(f"training proxies, {trial + (fraction == 1.0)} of {trials}", done)

    def _add(self, field: str, count: int) -> None:
        self._record[field] = str(int(self._record.get(field, 0)) + count)

    def _change(self, **changes: object) -> None:
        self.job = self.job.model_copy(update=changes)
        progress = progress_of(self.job.status, self._record, self._running, self._devices, time.time())
        self.job = self.job.model_copy(update={"progress": progress})
        self._on_change(self.job)
