"""How far a job is, from the plain fields of its record. Pure: no Redis here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from coreset.schemas.job import Job, JobStatus, Progress, SampleCounts, ShardCounts
from coreset.spec.job import JobSpec

SHARES = (0.15, 0.80, 0.05)
"""Preparing, scoring and reducing, of the whole job's fraction. Preparing hashes checkpoints and computes the
directions; reducing is a query."""

EVALUATING_SHARES = (0.05, 0.25, 0.70)
"""The same of a job that trains proxies while it is reducing."""

TRAINING_SHARES = (0.50, 0.45, 0.05)
"""The same of a job that trains its run while it is preparing."""

TRAINING_AND_EVALUATING_SHARES = (0.30, 0.20, 0.50)

FINISH_SHARE = 0.05
"""Of reducing, where proxies follow: what comes before them."""

RUNNING_FOR = 300.0
"""Seconds after which a running shard that says nothing is no longer shown: its worker is dead."""

STAGES: dict[JobStatus, str] = {
    JobStatus.QUEUED: "waiting for a worker",
    JobStatus.PREPARING: "planning",
    JobStatus.SCORING: "scoring shards",
    JobStatus.REDUCING: "merging",
    JobStatus.SUCCEEDED: "done",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLING: "stopping",
    JobStatus.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class Running:
    """The last word of a shard that a worker is on: server time and fraction, 0 to 1."""

    at: float
    fraction: float


def progress_of(
    status: JobStatus, record: Mapping[str, str], running: list[Running], devices: list[str], now: float
) -> Progress:
    """Return the progress at server time `now`."""
    live = [shard for shard in running if now - shard.at < RUNNING_FOR] if status is JobStatus.SCORING else []
    shards = ShardCounts(
        total=_int(record, "shards_total"),
        done=_int(record, "shards_done"),
        failed=_int(record, "shards_failed"),
        running=len(live),
    )
    scored_part = _scored_part(shards, live)
    return Progress(
        stage=record.get("stage") or STAGES[status],
        fraction=_fraction(status, record, scored_part),
        shards=shards,
        samples=SampleCounts(
            read=_int(record, "samples_read"),
            scored=_int(record, "samples_scored"),
            duplicates=_int(record, "samples_duplicates"),
            bad=_bad(record),
        ),
        samples_per_second=_rate(record, now),
        eta_seconds=_eta(record, shards, scored_part, now) if status is JobStatus.SCORING else None,
        devices=sorted(devices),
    )


def _int(record: Mapping[str, str], field: str) -> int:
    return int(record.get(field, 0))


def _bad(record: Mapping[str, str]) -> dict[str, int]:
    return {field[4:]: int(count) for field, count in sorted(record.items()) if field.startswith("bad:")}


def _scored_part(shards: ShardCounts, live: list[Running]) -> float:
    if not shards.total:
        return 0.0
    accounted = shards.done + shards.failed + sum(shard.fraction for shard in live)
    return min(1.0, accounted / shards.total)


def _fraction(status: JobStatus, record: Mapping[str, str], scored_part: float) -> float:
    if status is JobStatus.SUCCEEDED:
        return 1.0
    prepared = 1.0 if "scoring_at" in record else float(record.get("prepare_fraction", 0))
    reduced = float(record.get("reduce_fraction", 0))
    shares = _shares("trains" in record, "evaluates" in record)
    parts = zip(shares, (prepared, scored_part, reduced), strict=True)
    return round(sum(share * part for share, part in parts), 4)


def kinds_of(spec: JobSpec) -> dict[str, str]:
    """Return the fields of a job's record that decide the shares of its phases."""
    kinds = {"trains": spec.train is not None, "evaluates": spec.evaluate is not None}
    return {kind: "1" for kind, has in kinds.items() if has}


def _shares(trains: bool, evaluates: bool) -> tuple[float, float, float]:
    if trains:
        return TRAINING_AND_EVALUATING_SHARES if evaluates else TRAINING_SHARES
    return EVALUATING_SHARES if evaluates else SHARES


def _scoring_seconds(record: Mapping[str, str], now: float) -> float:
    if "scoring_at" not in record:
        return 0.0
    end = float(record.get("reducing_at") or record.get("ended_at") or now)
    return max(0.0, end - float(record["scoring_at"]))


def _rate(record: Mapping[str, str], now: float) -> float | None:
    """Samples scored by this job itself: parts that were found done cost no time and would flatter the rate."""
    seconds = _scoring_seconds(record, now)
    scored = _int(record, "samples_scored") - _int(record, "samples_resumed")
    return round(scored / seconds, 2) if scored > 0 and seconds > 0 else None


def _eta(record: Mapping[str, str], shards: ShardCounts, scored_part: float, now: float) -> float | None:
    """Seconds per shard so far, times the shards that are left."""
    worked = scored_part * shards.total - _int(record, "shards_resumed")
    if worked <= 0:
        return None
    return round(_scoring_seconds(record, now) / worked * (1 - scored_part) * shards.total, 1)


def prepare_seconds_left(job: Job, now: datetime) -> float | None:
    """Return the estimated time until a job is prepared; None if it is not preparing, or has just begun."""
    share = _shares(job.spec.train is not None, job.spec.evaluate is not None)[0]
    prepared = job.progress.fraction / share
    if job.status is not JobStatus.PREPARING or job.started_at is None or not 0.05 <= prepared < 1:
        return None
    return max(0.0, (now - job.started_at).total_seconds()) * (1 - prepared) / prepared
