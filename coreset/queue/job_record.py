"""A job as the store's Redis holds it, made into a Job."""

from datetime import UTC, datetime
from typing import NamedTuple

from coreset.queue.progress import Running, progress_of
from coreset.schemas.job import FailedShard, Job, JobStatus, Reason
from coreset.spec.job import JobSpec

MAX_LISTED_FAILURES = 1000


class RawJob(NamedTuple):
    """The answers to one job's reads, in the order of the store's pipeline."""

    record: dict[bytes, bytes]
    running: list[bytes]
    devices: set[bytes]
    failed: list[bytes]
    warnings: list[bytes]


def read_job(raw: RawJob, now: float) -> Job | None:
    """Return the job at server time `now`, or None if Redis holds nothing of it."""
    if not raw.record:
        return None
    record = {field.decode(): value.decode() for field, value in raw.record.items()}
    status = JobStatus(record["status"])
    failures = [FailedShard.model_validate_json(entry) for entry in raw.failed[:MAX_LISTED_FAILURES]]
    devices = [device.decode() for device in raw.devices]
    return Job(
        id=record["id"],
        status=status,
        reason=_reason(record),
        spec=JobSpec.model_validate_json(record["spec"]),
        plan_id=record.get("plan_id"),
        created_at=datetime.fromtimestamp(float(record["created_at"]), UTC),
        started_at=_time(record, "started_at"),
        ended_at=_time(record, "ended_at"),
        expires_at=_time(record, "expires_at"),
        progress=progress_of(status, record, [_running(entry) for entry in raw.running], devices, now),
        failed_shards=sorted(failures, key=lambda failure: failure.shard),
        warnings=[text.decode() for text in raw.warnings],
    )


def _reason(record: dict[str, str]) -> Reason | None:
    if "reason_code" not in record:
        return None
    return Reason(code=record["reason_code"], message=record["reason_message"])


def _running(entry: bytes) -> Running:
    at, fraction = entry.decode().split()
    return Running(float(at), float(fraction))


def _time(record: dict[str, str], field: str) -> datetime | None:
    return datetime.fromtimestamp(float(record[field]), UTC) if field in record else None
