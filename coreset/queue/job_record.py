"""Parsing of a job's record in Redis into a Job.

Another version of the service may have written it, before an upgrade or after a rollback. A record that this version
cannot read is shown as `unreadable`, with what can be read of it; it never breaks the answer about other jobs.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from pydantic import ValidationError
from pydantic_core import from_json

from coreset.queue.progress import Running, progress_of
from coreset.schemas.job import TRANSITIONS, FailedShard, Job, JobStatus, Reason
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
    record = {field.decode(errors="replace"): value.decode(errors="replace") for field, value in raw.record.items()}
    try:
        return _job(record, raw, now)
    except (ValueError, KeyError, TypeError) as error:
        return _unreadable(record, error)


def status_of(stored: str | bytes) -> JobStatus:
    """Return a stored status; UNREADABLE for one that this version does not know."""
    text = stored.decode(errors="replace") if isinstance(stored, bytes) else stored
    return JobStatus(text) if text in TRANSITIONS else JobStatus.UNREADABLE


def _job(record: dict[str, str], raw: RawJob, now: float) -> Job:
    """Raises ValueError, KeyError or TypeError for a record of another version."""
    status = status_of(record["status"])
    if status is JobStatus.UNREADABLE:
        raise ValueError(f"unknown status {record['status'][:100]!r}")
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


def _unreadable(record: dict[str, str], error: Exception) -> Job:
    message = f"this version cannot read the job's record: {_cause(error)}; upgrade the service, or delete the job"
    try:
        created_at = datetime.fromtimestamp(float(record["created_at"]), UTC)
    except (ValueError, KeyError, OverflowError):
        created_at = datetime.fromtimestamp(0, UTC)
    return Job(
        id=record.get("id", "unknown"),
        status=JobStatus.UNREADABLE,
        reason=Reason(code="unreadable", message=message),
        spec=_readable_part(record.get("spec", "")),
        created_at=created_at,
    )


def _cause(error: Exception) -> str:
    return mistakes(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"[:300]


def mistakes(error: ValidationError) -> str:
    """Return the first mistakes of a spec or record, each with its field, in 300 characters at most."""
    first = [f"{'.'.join(map(str, mistake['loc'])) or 'spec'}: {mistake['msg']}" for mistake in error.errors()[:3]]
    return "; ".join(first)[:300]


def _readable_part(text: str) -> JobSpec:
    """Return a spec of those fields that this version knows; a placeholder if too few are left."""
    try:
        fields: Any = from_json(text)
        for _ in range(10):  # taking a field away may show another mistake
            try:
                return JobSpec.model_validate(fields)
            except ValidationError as error:
                for mistake in error.errors():
                    _remove(fields, mistake["loc"])
    except (ValueError, TypeError, KeyError, IndexError):
        pass
    return _PLACEHOLDER


def _remove(fields: Any, path: tuple[int | str, ...]) -> None:
    """Remove the innermost value on the path that exists: unions add steps to it that the text lacks."""
    for step in path:
        inner = cast(Any, fields)[step] if isinstance(fields, dict) and step in fields else None
        if not isinstance(inner, dict) or step == path[-1]:
            cast(dict[Any, Any], fields).pop(step, None)
            return
        fields = cast(Any, inner)


_PLACEHOLDER = JobSpec.model_validate(
    {"pool": {"shards": ["unreadable"]}, "checkpoints": {"run": "unreadable"}, "select": {"fraction": 1}}
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
