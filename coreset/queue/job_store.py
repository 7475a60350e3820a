"""The state of jobs in Redis (coreset.redis.keys has the data model)."""

import hashlib
import json
import secrets
import time
from typing import NamedTuple

from redis import Redis

from coreset.errors import Conflict, InvalidInput, NotFound, StoredSpecsFull, TooManyOpenJobs
from coreset.logs import request_id
from coreset.queue.event_entries import MAX_EVENTS, EventBatch, read_entry, status_entry, warning_entry
from coreset.queue.job_listing import JobListing
from coreset.queue.job_record import status_of
from coreset.queue.job_scripts import JobScripts, raise_missing
from coreset.queue.progress import STAGES
from coreset.queue.removals import Removals
from coreset.queue.shard_records import ShardRecords
from coreset.queue.task_counts import TaskCounts
from coreset.redaction import redact, redact_model
from coreset.redis.connection import translate_redis_errors
from coreset.redis.keys import (
    COUNTERS,
    DELIVERIES,
    DELIVERY,
    EXPIRIES,
    IDEMPOTENCY,
    JOB_PREFIX,
    JOBS,
    OPEN_JOBS,
    PROBE,
    REMOVALS,
    SPEC_BYTES,
    job_keys,
)
from coreset.redis.locks import Locks
from coreset.schemas.job import TERMINAL, TRANSITIONS, Job, JobStatus, Reason
from coreset.spec.job import JobSpec

IDEMPOTENCY_SECONDS = 24 * 3600
"""How long an idempotency key is remembered."""

LEAST_SPEC_BYTES = 4096
"""Bytes that a spec counts for at least: a job's other keys take some kilobytes of Redis, however short its spec is."""

_TIME_FIELD = {JobStatus.PREPARING: "started_at", JobStatus.SCORING: "scoring_at", JobStatus.REDUCING: "reducing_at"}


def new_job_id() -> str:
    """Return a fresh id: letters and digits only (RQ allows few others), in order of time."""
    return f"j{time.time_ns() // 1_000_000:011x}{secrets.token_hex(5)}"


def fingerprint(spec: JobSpec) -> str:
    """Return a hash of the spec without what has its default, which does not depend on the order of its fields.

    So a version with more fields gives the same hash, and an Idempotency-Key outlives the upgrade.
    """
    canonical = json.dumps(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Caller(NamedTuple):
    """The owner of new jobs.

    Attributes:
        name: of the API key.
        max_open_jobs: largest number of jobs under that name that have not ended.
        max_spec_bytes: largest sum of the specs of all its jobs, each counted as LEAST_SPEC_BYTES at least.
    """

    name: str
    max_open_jobs: int
    max_spec_bytes: int


class JobStore:
    """One job's state at a time. All methods raise Unavailable when Redis does not answer.

    Args:
        redis: a client that returns bytes (coreset.redis.connection.connect).

    Attributes:
        listing: reads many jobs at once.
        shards: progress and outcomes of shards.
        task_counts: numbers of score tasks and trials.
        removals: jobs that are due for deletion, or whose files are.
        locks: for work that one process at a time should do.
    """

    def __init__(self, redis: Redis) -> None:
        self._scripts = JobScripts(redis)
        self._redis = self._scripts.redis
        self.listing = JobListing(self._redis)
        self.shards = ShardRecords(self._scripts)
        self.task_counts = TaskCounts(self._scripts)
        self.removals = Removals(self._redis)
        self.locks = Locks(self._redis)

    def create(
        self, spec: JobSpec, job_id: str, idempotency_key: str | None = None, caller: Caller | None = None
    ) -> Job:
        """Store a new job, or return the one that came with the same idempotency key in the last 24 hours.

        Args:
            caller: the job's owner. Idempotency keys of different callers are different keys.

        Raises:
            TooManyOpenJobs: the caller has its largest number of open jobs.
            StoredSpecsFull: the specs of the caller's jobs have their largest number of bytes.
            InvalidInput: the key was used with another spec.
            Conflict: the id exists, or the job of this key was deleted.
        """
        keys = job_keys(job_id)
        idempotency = open_jobs = ""
        if idempotency_key is not None:
            own = f"{caller.name}:{idempotency_key}" if caller else idempotency_key
            idempotency = IDEMPOTENCY.format(key=hashlib.sha256(own.encode()).hexdigest())
        if caller is not None:
            open_jobs = OPEN_JOBS.format(name=caller.name)
        mark = fingerprint(spec)
        event = [*status_entry(JobStatus.QUEUED), MAX_EVENTS]
        text = spec.model_dump_json()
        limit = [caller.max_open_jobs if caller else 0, JOB_PREFIX, ",".join(["", *TERMINAL, ""])]
        size = max(len(text.encode()), LEAST_SPEC_BYTES)
        limit += [caller.name, size, caller.max_spec_bytes] if caller else ["", 0, 0]
        arguments = [job_id, text, mark, IDEMPOTENCY_SECONDS, spec.priority, *event, *limit]
        answer = self._scripts.run(
            "create_job",
            [keys.record, JOBS, keys.events, idempotency, open_jobs, SPEC_BYTES],
            [*arguments, *_record_fields(spec)],
        )
        if answer == "full" and caller is not None:
            raise TooManyOpenJobs(
                f"{caller.max_open_jobs} jobs of {caller.name} are open; wait until one has ended, or cancel one",
                retry_after=60,
            )
        if answer == "stored" and caller is not None:
            raise StoredSpecsFull(
                f"the specs of {caller.name}'s jobs, of ended ones too, would have more than "
                f"{caller.max_spec_bytes:,} bytes; delete ended jobs, or give new ones `ttl_seconds_after_finished`",
                retry_after=3600,
            )
        if answer == "exists":
            raise Conflict(f"job {job_id} exists", id=job_id)
        return self.get(job_id) if answer == "ok" else self._of_idempotency_key(answer, mark)

    def _of_idempotency_key(self, claim: str, mark: str) -> Job:
        """Return the job that claimed an idempotency key before, if its spec is the same."""
        claimed_id, claimed_mark = claim.split()
        if claimed_mark != mark:
            raise InvalidInput(
                "this Idempotency-Key came with another job spec; use a new key for a new job", id=claimed_id
            )
        try:
            return self.get(claimed_id)
        except NotFound:
            raise Conflict("the job of this Idempotency-Key was deleted; use a new key", id=claimed_id) from None

    def get(self, job_id: str) -> Job:
        """Return the job. Raises NotFound."""
        return self.listing.read([job_id])[0] or raise_missing(job_id)

    def version(self, job_id: str) -> int:
        """Return a number that grows with every change of the job. Raises NotFound."""
        return self.peek(job_id)[0]

    def peek(self, job_id: str) -> tuple[int, JobStatus]:
        """Return version and status in one cheap read, for callers that poll. Raises NotFound."""
        with translate_redis_errors():
            version, status = self._redis.hmget(job_keys(job_id).record, "version", "status")
        if version is None or status is None:
            raise_missing(job_id)
        return int(version), status_of(status)

    def status(self, job_id: str) -> JobStatus:
        """Return the job's status. Raises NotFound."""
        return self.peek(job_id)[1]

    def transition(self, job_id: str, to: JobStatus, reason: Reason | None = None) -> Job:
        """Move the job to another state; do nothing if it is there already.

        Raises:
            NotFound: there is no such job.
            Conflict: schemas.job.TRANSITIONS has no such step.
        """
        sources = [source.value for source, targets in TRANSITIONS.items() if to in targets]
        field = "ended_at" if to in TERMINAL else _TIME_FIELD.get(to, "")
        reason = redact_model(reason) if reason else None
        code, message = (reason.code, reason.message) if reason else ("", "")
        keys = job_keys(job_id)
        answer = self._scripts.run(
            "change_status",
            [keys.record, keys.events, COUNTERS, EXPIRIES, DELIVERIES, DELIVERY.format(id=job_id)],
            [to.value, STAGES[to], code, message, field, *status_entry(to, reason), MAX_EVENTS, *sources],
            job_id,
        )
        if answer not in ("ok", "same"):
            raise Conflict(f"job {job_id} is {answer}, so it cannot become {to.value}", id=job_id, status=answer)
        return self.get(job_id)

    def request_cancel(self, job_id: str) -> Job:
        """Move the job to `cancelling`. Raises NotFound, and Conflict when it has ended."""
        reason = Reason(code="cancelled-by-caller", message="a caller cancelled the job")
        return self.transition(job_id, JobStatus.CANCELLING, reason)

    def cancel_requested(self, job_id: str) -> bool:
        """Return whether work on the job should stop: it is being cancelled, has ended, or does not exist."""
        status = self._scripts.field(job_id, "status")
        return status is None or status_of(status) in TERMINAL | {JobStatus.CANCELLING}

    def set_stage(self, job_id: str, stage: str, fraction: float) -> None:
        """Record the present step of preparing or reducing, and the fraction of that phase, 0 to 1. Raises NotFound."""
        reducing = self.status(job_id) is JobStatus.REDUCING
        field = "reduce_fraction" if reducing else "prepare_fraction"
        self._scripts.set_fields(job_id, "stage", stage, field, round(fraction, 4))

    def set_plan(self, job_id: str, plan_id: str, shards_total: int) -> None:
        """Record the job's plan and its number of shards. Raises NotFound."""
        self._scripts.set_fields(job_id, "plan_id", plan_id, "shards_total", shards_total)

    def set_duplicates(self, job_id: str, duplicates: int) -> None:
        """Record the number of scored samples that have the uid of an earlier one. Raises NotFound."""
        self._scripts.set_fields(job_id, "samples_duplicates", duplicates)

    def request_id(self, job_id: str) -> str | None:
        """Return the id of the HTTP request that created the job, if it is known."""
        return self._scripts.field(job_id, "request_id")

    def warn(self, job_id: str, warning: str) -> None:
        """Add a warning to the job; the same text is kept once. Raises NotFound."""
        warning, keys = redact(warning), job_keys(job_id)
        arguments = [warning, *warning_entry(warning), MAX_EVENTS]
        self._scripts.run("add_warning", [keys.record, keys.warnings, keys.events], arguments, job_id)

    def events(self, job_id: str, after: str = "0-0") -> EventBatch:
        """Return the job's events after the one of that id, oldest first. Raises NotFound."""
        keys = job_keys(job_id)
        with translate_redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.record, "version", "status")
            pipe.xrange(keys.events, min=f"({after}", count=MAX_EVENTS)
            (version, status), entries = pipe.execute()
        if version is None or status is None:
            raise_missing(job_id)
        now = status_of(status)
        complete = now in TERMINAL and len(entries) < MAX_EVENTS
        return EventBatch(int(version), now, [read_entry(*entry) for entry in entries], complete)

    def delete(self, job_id: str) -> None:
        """Delete the record of a job that has ended, and schedule the removal of its files.

        Raises:
            NotFound: there is no such job.
            Conflict: it has not ended.
        """
        record, *others = job_keys(job_id)
        keys = [record, JOBS, REMOVALS, EXPIRIES, SPEC_BYTES, *others]
        legal = [status.value for status in TERMINAL]
        if self.get(job_id).status is JobStatus.UNREADABLE:
            legal.append(self._scripts.field(job_id, "status") or "")
        answer = self._scripts.run("delete_job", keys, [job_id, *legal], job_id)
        if answer != "ok":
            raise Conflict(
                f"job {job_id} is {answer}; cancel it and wait for its end, then delete it", id=job_id, status=answer
            )

    def probe(self) -> None:
        """Write a key, since a full or read-only Redis answers a ping. Raises Unavailable."""
        with translate_redis_errors():
            self._redis.set(PROBE, "written", ex=60)


def _record_fields(spec: JobSpec) -> list[str | int]:
    """Return what scripts need of the spec, and the id of the present request, as name, value, name, value."""
    fields: dict[str, str | int] = {}
    if (request := request_id()) is not None:
        fields["request_id"] = request
    if spec.ttl_seconds_after_finished is not None:
        fields["ttl"] = spec.ttl_seconds_after_finished
    if spec.evaluate is not None:
        fields["evaluates"] = 1
    if spec.labels:
        fields["labels"] = json.dumps(spec.labels)
    if spec.webhook is not None:
        ends = " ".join(event.removeprefix("job.") for event in spec.webhook.events)
        fields |= {"webhook_url": spec.webhook.url, "webhook_on": f" {ends} "}
    return [item for pair in fields.items() for item in pair]
