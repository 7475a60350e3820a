"""The state of jobs in Redis. The only module that knows our key names; RQ's own keys (`rq:*`) are RQ's business.

    key                          type    TTL   what                                            written by     read by
    coreset:jobs                 zset    none  job id, scored by its time of creation          create         page
    coreset:job:{id}             hash    none  status, spec, times, stage, counters, version   every change   get
    coreset:job:{id}:outcomes    hash    none  shard -> done | failed; what makes counts exact shard_*        shard_*
    coreset:job:{id}:running     hash    none  shard -> "server-time fraction" of a live shard shard_*        get
    coreset:job:{id}:failed      hash    none  shard -> FailedShard as JSON                    shard_failed   get
    coreset:job:{id}:devices     set     none  what the workers of the job compute on          shard_*        get
    coreset:job:{id}:trials      hash    none  trial of an evaluation -> how far it is, 0 to 1 trial_advanced script
    coreset:job:{id}:warnings    zset    none  texts, scored by time                           warn           get
    coreset:job:{id}:events      stream  none  milestones: type, data as JSON; 1000 or so      with a change  events
    coreset:expiries             zset    none  job id, scored by when it is to be deleted      transition     expired
    coreset:removals             zset    none  deleted jobs whose files are still there        delete         removals
    coreset:deliveries           zset    none  ended job with a webhook, scored by its next try    transition     Outbox
    coreset:delivery:{id}        hash    none  job_id, url, at, data (status, reason), attempts    transition     Outbox
    coreset:idempotency:{key}    string  24 h  "job-id fingerprint"                            create         create
    coreset:open:{name}          set     none  ids of a caller's jobs, ended ones until the next   create         create
    coreset:turn:{name}          string  short a lock that runs out by itself                  take_turn      take_turn
    coreset:probe                string  60 s  shows that Redis takes writes                       probe          -
    coreset:totals               hash    none  counters of all jobs and workers since ever     shard_*, Totals Totals
    coreset:worker:{name}        string  short what a living worker says of itself, JSON       Totals         Totals

Fields of the record: id, status, reason_code, reason_message, spec, priority, request_id, plan_id, created_at,
started_at, scoring_at, reducing_at, ended_at (seconds of the server's clock), stage, prepare_fraction, reduce_fraction,
tasks, trials, evaluates, shards_total, shards_done, shards_failed, shards_resumed, samples_read, samples_scored,
samples_resumed, bad:{sample status}, ttl, expires_at, webhook_url, webhook_on, version.
Nothing here is needed to find results again: they are in the storage.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, cast

from redis import Redis
from redis.exceptions import RedisError

from coreset.errors import Conflict, InvalidInput, NotFound, TooManyOpenJobs
from coreset.logs import request_id
from coreset.queue import scripts as lua
from coreset.queue.job_record import RawJob, read_job, status_of
from coreset.queue.page_tokens import Position, decode_token, encode_token
from coreset.queue.progress import FINISH_SHARE, STAGES
from coreset.queue.redis_errors import unavailable
from coreset.redaction import redact, redact_model
from coreset.schemas.events import News, failure_entry, read_entry, status_entry, warning_entry
from coreset.schemas.job import TERMINAL, TRANSITIONS, FailedShard, Job, JobPage, JobStatus, Reason
from coreset.schemas.manifest import ShardSummary
from coreset.spec.job import JobSpec, Priority

JOBS = "coreset:jobs"
JOB = "coreset:job:{id}"
EXPIRIES = "coreset:expiries"
REMOVALS = "coreset:removals"
DELIVERIES = "coreset:deliveries"
DELIVERY = "coreset:delivery:{id}"
OPEN_JOBS = "coreset:open:{name}"
IDEMPOTENCY = "coreset:idempotency:{key}"
TURN = "coreset:turn:{name}"
PROBE = "coreset:probe"
TOTALS = "coreset:totals"
WORKER = "coreset:worker:{name}"
IDEMPOTENCY_SECONDS = 24 * 3600
MAX_PAGE = 100
PAGE_BYTES = 2 * 1024 * 1024
"""Largest sum of the specs on a page of several jobs; a spec may have a megabyte."""

_TIME_FIELD = {JobStatus.PREPARING: "started_at", JobStatus.SCORING: "scoring_at", JobStatus.REDUCING: "reducing_at"}


def new_job_id() -> str:
    """Return a fresh id: letters and digits only (RQ allows few others), in order of time."""
    return f"j{time.time_ns() // 1_000_000:011x}{secrets.token_hex(5)}"


def fingerprint(spec: JobSpec) -> str:
    """Return a hash of the spec with its defaults filled in: equal for equal wishes, whatever their order."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Caller(NamedTuple):
    """Who posts a job.

    Attributes:
        name: of the API key.
        max_open_jobs: jobs of that name that may be open at once.
    """

    name: str
    max_open_jobs: int


@contextmanager
def answering() -> Generator[None]:
    """Turn a Redis that cannot be reached, or takes no writes, into our own error.

    Raises:
        Unavailable: names the cause.
    """
    try:
        yield
    except RedisError as error:
        if (found := unavailable(error)) is None:
            raise
        raise found from error


class JobStore:
    """Jobs, their states and counts. All methods raise Unavailable when Redis does not answer.

    Args:
        redis: a client that returns bytes (coreset.queue.task_queue.connect).
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = cast(Any, redis)  # redis-py's own types are partly unknown
        self._scripts: dict[str, Any] = {}

    def create(
        self, spec: JobSpec, job_id: str, idempotency_key: str | None = None, caller: Caller | None = None
    ) -> Job:
        """Store a new job, or return the one that came with the same idempotency key in the last 24 hours.

        Args:
            caller: whose job it is. Idempotency keys of different callers are different keys.

        Raises:
            TooManyOpenJobs: the caller has as many jobs that have not ended as they may.
            InvalidInput: the key was used with another spec.
            Conflict: there is a job of this id, or the one of this key was deleted.
        """
        keys = [_job(job_id), JOBS, _events(job_id), "", ""]
        if idempotency_key is not None:
            own = f"{caller.name}:{idempotency_key}" if caller else idempotency_key
            keys[3] = IDEMPOTENCY.format(key=hashlib.sha256(own.encode()).hexdigest())
        if caller is not None:
            keys[4] = OPEN_JOBS.format(name=caller.name)
        mark = fingerprint(spec)
        told = [*status_entry(JobStatus.QUEUED), *_limit_of(caller), *_fields_of(spec)]
        arguments = [job_id, spec.model_dump_json(), mark, IDEMPOTENCY_SECONDS, spec.priority, *told]
        answer = self._run(lua.CREATE, keys, arguments)
        if answer == "full" and caller is not None:
            raise TooManyOpenJobs(
                f"{caller.max_open_jobs} jobs of {caller.name} are open; wait until one has ended, or cancel one",
                retry_after=60,
            )
        if answer == "exists":
            raise Conflict(f"job {job_id} exists", id=job_id)
        if answer == "ok":
            return self.get(job_id)
        claimed_id, claimed_mark = answer.split()
        if claimed_mark != mark:
            raise InvalidInput(
                "this Idempotency-Key came with another job spec; use a new key for a new job", id=claimed_id
            )
        try:
            return self.get(claimed_id)
        except NotFound:
            raise Conflict("the job of this Idempotency-Key was deleted; use a new key", id=claimed_id) from None

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        return self._jobs([job_id])[0] or _missing(job_id)

    def page(self, size: int = 20, token: str | None = None, status: JobStatus | None = None) -> JobPage:
        """Return up to `size` jobs, newest first; fewer if their specs have more than PAGE_BYTES. MAX_PAGE at most.

        Raises:
            InvalidInput: the token is not one of ours, or belongs to another filter.
        """
        size = max(1, min(size, MAX_PAGE))
        filter_name = status.value if status else ""
        position = decode_token(token, filter_name) if token else None
        chosen: list[Position] = []
        weight = 0
        more = False
        for place, weighs in self._newest_first(position, status):
            if len(chosen) == size or (chosen and weight + weighs > PAGE_BYTES):
                more = True
                break
            chosen.append(place)
            weight += weighs
        return JobPage(
            jobs=[job for job in self._jobs([place.job_id for place in chosen]) if job],
            next_page_token=encode_token(chosen[-1], filter_name) if more else None,
        )

    def version(self, job_id: str) -> int:
        """Return a number that grows with every change of the job. Raises NotFound."""
        return self.peek(job_id)[0]

    def peek(self, job_id: str) -> tuple[int, JobStatus]:
        """Return version and status in one cheap read, for those who wait. Raises NotFound."""
        with answering():
            version, status = self._redis.hmget(_job(job_id), "version", "status")
        if version is None or status is None:
            _missing(job_id)
        return int(version), status_of(status)

    def status(self, job_id: str) -> JobStatus:
        """Raises NotFound."""
        return self.peek(job_id)[1]

    def active(self) -> dict[str, JobStatus]:
        """Return the jobs that have not ended, oldest first."""
        with answering(), self._redis.pipeline(transaction=False) as pipe:
            job_ids = [_text(member) for member in self._redis.zrange(JOBS, 0, -1)]
            for job_id in job_ids:
                pipe.hget(_job(job_id), "status")
            statuses: list[Any] = pipe.execute()
        known = {job_id: status_of(status) for job_id, status in zip(job_ids, statuses, strict=True) if status}
        return {job_id: status for job_id, status in known.items() if status not in TERMINAL}

    def priorities(self, job_ids: Sequence[str]) -> dict[str, Priority]:
        """Return the priorities of the jobs that are there."""
        with answering(), self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(_job(job_id), "priority")
            answers: list[Any] = pipe.execute()
        return {job_id: cast(Priority, _text(one)) for job_id, one in zip(job_ids, answers, strict=True) if one}

    def take_turn(self, name: str, seconds: float) -> bool:
        """Say whether the caller is the only one to do `name` for the next seconds."""
        with answering():
            return bool(self._redis.set(TURN.format(name=name), "taken", nx=True, px=max(1, int(1000 * seconds))))

    def turn_taken(self, name: str) -> bool:
        """Say whether somebody has the turn."""
        with answering():
            return bool(self._redis.exists(TURN.format(name=name)))

    def end_turn(self, name: str) -> None:
        """Give the turn back before its time is over."""
        with answering():
            self._redis.delete(TURN.format(name=name))

    def transition(self, job_id: str, to: JobStatus, reason: Reason | None = None) -> Job:
        """Move the job to another state; being there already is fine.

        Raises:
            NotFound: no such job.
            Conflict: job.TRANSITIONS has no such step.
        """
        sources = [source.value for source, targets in TRANSITIONS.items() if to in targets]
        field = "ended_at" if to in TERMINAL else _TIME_FIELD.get(to, "")
        reason = redact_model(reason) if reason else None
        code, message = (reason.code, reason.message) if reason else ("", "")
        arguments = [to.value, STAGES[to], code, message, field, *status_entry(to, reason), *sources]
        keys = [_job(job_id), _events(job_id), TOTALS, EXPIRIES, DELIVERIES, DELIVERY.format(id=job_id)]
        answer = self._run(lua.TRANSITION, keys, arguments, job_id)
        if answer not in ("ok", "same"):
            raise Conflict(f"job {job_id} is {answer}, so it cannot become {to.value}", id=job_id, status=answer)
        return self.get(job_id)

    def request_cancel(self, job_id: str) -> Job:
        """Move the job to `cancelling`. Raises NotFound, and Conflict when it has ended."""
        reason = Reason(code="cancelled-by-caller", message="somebody asked for it")
        return self.transition(job_id, JobStatus.CANCELLING, reason)

    def cancel_requested(self, job_id: str) -> bool:
        """Say whether work on the job should stop: it is being cancelled, has ended, or is gone."""
        with answering():
            status = self._redis.hget(_job(job_id), "status")
        if status is None:
            return True
        return status_of(status) in TERMINAL | {JobStatus.CANCELLING}

    def set_stage(self, job_id: str, stage: str, fraction: float) -> None:
        """Say in words what preparing or reducing is at, and how far it is (0 to 1 of that phase). Raises NotFound."""
        reducing = self.status(job_id) is JobStatus.REDUCING
        self._set(job_id, "stage", stage, "reduce_fraction" if reducing else "prepare_fraction", round(fraction, 4))

    def set_plan(self, job_id: str, plan_id: str, shards_total: int) -> None:
        """Raises NotFound."""
        self._set(job_id, "plan_id", plan_id, "shards_total", shards_total)

    def set_duplicates(self, job_id: str, duplicates: int) -> None:
        """Record how many scored samples have the uid of an earlier one. Raises NotFound."""
        self._set(job_id, "samples_duplicates", duplicates)

    def set_tasks(self, job_id: str, tasks: int) -> None:
        """Record how many score tasks the job has, for the queue. Raises NotFound."""
        self._set(job_id, "tasks", tasks)

    def tasks(self, job_id: str) -> int:
        """Return the number of score tasks; 0 before there are any."""
        with answering():
            return int(self._redis.hget(_job(job_id), "tasks") or 0)

    def set_trials(self, job_id: str, trials: int) -> None:
        """Record how many trials the job's evaluation has, for the queue. Raises NotFound."""
        self._set(job_id, "trials", trials)

    def trials(self, job_id: str) -> int:
        """Return the number of trials; 0 before there are any."""
        with answering():
            return int(self._redis.hget(_job(job_id), "trials") or 0)

    def trial_advanced(self, job_id: str, trial: int, fraction: float, trials: int) -> None:
        """Say how far a trial is, 0 to 1, of so many in all. Raises NotFound."""
        arguments = [trial, round(fraction, 4), trials, FINISH_SHARE]
        self._run(lua.TRIAL, [_job(job_id), _trials(job_id)], arguments, job_id)

    def outcomes(self, job_id: str) -> dict[int, str]:
        """Return `done` or `failed` for every shard that is counted."""
        with answering():
            found: dict[bytes, bytes] = self._redis.hgetall(_shard_keys(job_id)[1])
        return {int(shard): _text(outcome) for shard, outcome in sorted(found.items(), key=lambda pair: int(pair[0]))}

    def request_id(self, job_id: str) -> str | None:
        """Return the id of the request that the job came with, if it is known."""
        with answering():
            found = self._redis.hget(_job(job_id), "request_id")
        return None if found is None else _text(found)

    def touch(self, job_id: str) -> None:
        """Raise the version, so that those who wait for a change look again. Raises NotFound."""
        self._set(job_id)

    def shard_started(self, job_id: str, shard: int, device: str) -> None:
        """Raises NotFound."""
        self._run(lua.SHARD_RUNNING, _shard_keys(job_id)[:4], [shard, 0.0, device], job_id)

    def shard_advanced(self, job_id: str, shard: int, fraction: float) -> None:
        """Say how far a running shard is, 0 to 1. Raises NotFound."""
        self._run(lua.SHARD_RUNNING, _shard_keys(job_id)[:4], [shard, round(fraction, 4), ""], job_id)

    def shard_done(self, job_id: str, summary: ShardSummary, resumed: bool = False) -> bool:
        """Count a scored shard, once however often its task runs.

        Args:
            resumed: its part was found in the storage, so it says nothing about the speed.

        Returns:
            Whether it was counted now.
        """
        counts = [item for pair in summary.bad.items() for item in pair]
        arguments = [summary.shard, summary.device, summary.read, summary.scored, int(resumed), *counts]
        return self._run(lua.SHARD_DONE, [*_shard_keys(job_id), TOTALS], arguments, job_id) == "ok"

    def shard_failed(self, job_id: str, shard: int, uri: str, message: str) -> bool:
        """Count a shard that failed for good, once; a shard that is done stays done. Returns whether it counted."""
        record, outcomes, running, _, failed = _shard_keys(job_id)
        told = failure_entry(FailedShard(shard=shard, uri=redact(uri), message=redact(message)))
        keys = [record, outcomes, running, failed, _events(job_id), TOTALS]
        return self._run(lua.SHARD_FAILED, keys, [shard, *told], job_id) == "ok"

    def warn(self, job_id: str, text: str) -> None:
        """Add a warning to the job; the same text is kept once. Raises NotFound."""
        text = redact(text)
        keys = [_job(job_id), f"{_job(job_id)}:warnings", _events(job_id)]
        self._run(lua.WARN, keys, [text, *warning_entry(text)], job_id)

    def events(self, job_id: str, after: str = "0-0") -> News:
        """Return the milestones of the job that came after the one of that id, oldest first. Raises NotFound."""
        with answering(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(_job(job_id), "version", "status")
            pipe.xrange(_events(job_id), min=f"({after}", count=lua.EVENTS_KEPT)
            (version, status), entries = pipe.execute()
        if version is None or status is None:
            _missing(job_id)
        now = status_of(status)
        complete = now in TERMINAL and len(entries) < lua.EVENTS_KEPT
        return News(int(version), now, [read_entry(*entry) for entry in entries], complete)

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended, and note that its files are to be removed.

        Raises:
            NotFound: no such job.
            Conflict: it has not ended.
        """
        own = [*_shard_keys(job_id)[1:], _trials(job_id), f"{_job(job_id)}:warnings", _events(job_id)]
        keys = [JOBS, REMOVALS, EXPIRIES, *own]
        legal = [one.value for one in TERMINAL]
        if self.get(job_id).status is JobStatus.UNREADABLE:
            with answering():
                legal.append(_text(self._redis.hget(_job(job_id), "status") or ""))
        answer = self._run(lua.DELETE, [_job(job_id), *keys], [job_id, *legal], job_id)
        if answer != "ok":
            raise Conflict(
                f"job {job_id} is {answer}; cancel it and wait for its end, then delete it", id=job_id, status=answer
            )

    def expired(self) -> list[str]:
        """Return the jobs whose time to be kept is over."""
        with answering():
            seconds, _ = self._redis.time()
            return [_text(member) for member in self._redis.zrange(EXPIRIES, "-inf", seconds, byscore=True)]

    def removals(self) -> list[str]:
        """Return the deleted jobs whose files are still to be removed, oldest first."""
        with answering():
            return [_text(member) for member in self._redis.zrange(REMOVALS, 0, -1)]

    def removed(self, job_id: str) -> None:
        """Note that the files of a deleted job are gone."""
        with answering():
            self._redis.zrem(REMOVALS, job_id)

    def probe(self) -> None:
        """Write something, since a full or read-only Redis answers a ping. Raises Unavailable."""
        with answering():
            self._redis.set(PROBE, "written", ex=60)

    def _set(self, job_id: str, *fields: str | float) -> None:
        self._run(lua.SET_FIELDS, [_job(job_id)], list(fields), job_id)

    def _run(self, script: str, keys: list[str], arguments: list[Any], job_id: str | None = None) -> str:
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(script)
        with answering():
            answer = _text(self._scripts[script](keys=keys, args=arguments))
        if answer == "missing" and job_id is not None:
            _missing(job_id)
        return answer

    def _newest_first(self, after: Position | None, status: JobStatus | None) -> Iterator[tuple[Position, int]]:
        """Yield the jobs of that status, or all, and the bytes of their specs; no spec is read."""
        while True:
            upper = repr(after.created_at) if after else "+inf"
            with answering():
                rows = self._redis.zrange(
                    JOBS, upper, "-inf", desc=True, byscore=True, withscores=True, offset=0, num=MAX_PAGE + 1
                )
            positions = [Position(score, _text(member)) for member, score in rows]
            older = [position for position in positions if after is None or position < after]
            with answering(), self._redis.pipeline(transaction=False) as pipe:
                for position in older:
                    pipe.hget(_job(position.job_id), "status")
                    pipe.hstrlen(_job(position.job_id), "spec")
                answers: list[Any] = pipe.execute()
            for position, stored, weighs in zip(older, answers[::2], answers[1::2], strict=True):
                if stored is not None and (status is None or status_of(stored) is status):
                    yield position, int(weighs)
            if len(rows) <= MAX_PAGE or not older:
                return
            after = older[-1]

    def _jobs(self, job_ids: list[str]) -> list[Job | None]:
        if not job_ids:
            return []
        with answering(), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for job_id in job_ids:
                record, _, running, devices, failed = _shard_keys(job_id)
                pipe.hgetall(record)
                pipe.hvals(running)
                pipe.smembers(devices)
                pipe.hvals(failed)
                pipe.zrange(f"{record}:warnings", 0, -1)
            answers: list[Any] = pipe.execute()
        seconds, micros = answers[0]
        now = seconds + micros / 1e6
        rows = [answers[at : at + 5] for at in range(1, len(answers), 5)]
        return [read_job(RawJob(*row), now) for row in rows]


def _limit_of(caller: Caller | None) -> list[str | int]:
    """Return how many jobs may be open, what stands before the id in a record's key, and the states at the end."""
    return [caller.max_open_jobs if caller else 0, JOB.format(id=""), ",".join(["", *TERMINAL, ""])]


def _fields_of(spec: JobSpec) -> list[str | int]:
    """Return what scripts need of the spec, and whose request it was, as field, value ..."""
    fields: dict[str, str | int | None] = {"request_id": request_id(), "ttl": spec.ttl_seconds_after_finished}
    if spec.evaluate is not None:
        fields["evaluates"] = 1
    if spec.webhook is not None:
        on = " ".join(event.removeprefix("job.") for event in spec.webhook.events)
        fields |= {"webhook_url": spec.webhook.url, "webhook_on": f" {on} "}
    return [item for pair in fields.items() if pair[1] is not None for item in pair]  # type: ignore[misc]


def _job(job_id: str) -> str:
    return JOB.format(id=job_id)


def _events(job_id: str) -> str:
    return f"{_job(job_id)}:events"


def _trials(job_id: str) -> str:
    return f"{_job(job_id)}:trials"


def _shard_keys(job_id: str) -> list[str]:
    record = _job(job_id)
    return [record, f"{record}:outcomes", f"{record}:running", f"{record}:devices", f"{record}:failed"]


def _missing(job_id: str) -> NoReturn:
    raise NotFound(f"there is no job {job_id}", id=job_id)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
