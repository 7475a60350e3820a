"""Lists of jobs: pages, newest first, and the jobs that have not ended."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from pydantic_core import from_json

from coreset.errors import InvalidInput
from coreset.queue.job_record import RawJob, read_job, status_of
from coreset.queue.page_tokens import Position, decode_token, encode_token
from coreset.redis.connection import text, translate_redis_errors
from coreset.redis.keys import JOBS, job_keys
from coreset.schemas.job import TERMINAL, Job, JobPage, JobStatus
from coreset.spec.job import Priority

MAX_PAGE = 100
"""Largest number of jobs on a page."""

PAGE_BYTES = 2 * 1024 * 1024
"""Largest sum of the specs on a page of several jobs; a spec may have a megabyte."""


class JobListing:
    """Reads many jobs at once. All methods raise Unavailable when Redis does not answer."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    def read(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return the jobs, None in the place of those that do not exist."""
        if not job_ids:
            return []
        with translate_redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for job_id in job_ids:
                keys = job_keys(job_id)
                pipe.hgetall(keys.record)
                pipe.hvals(keys.running)
                pipe.smembers(keys.devices)
                pipe.hvals(keys.failed)
                pipe.zrange(keys.warnings, 0, -1)
            answers: list[Any] = pipe.execute()
        seconds, micros = answers[0]
        now = seconds + micros / 1e6
        rows = [answers[at : at + 5] for at in range(1, len(answers), 5)]
        return [read_job(RawJob(*row), now) for row in rows]

    def page(
        self, size: int = 20, token: str | None = None, status: JobStatus | None = None, label: str | None = None
    ) -> JobPage:
        """Return up to `size` jobs, newest first; fewer if their specs have more than PAGE_BYTES. MAX_PAGE at most.

        Args:
            label: `key:value`, only jobs with that label.

        Raises:
            InvalidInput: the token is not one of ours, or belongs to another filter; the label has no colon.
        """
        size = max(1, min(size, MAX_PAGE))
        wanted = _label(label) if label is not None else None
        filter_name = (status.value if status else "") + (f" label {label}" if label is not None else "")
        position = decode_token(token, filter_name) if token else None
        chosen: list[Position] = []
        total = 0
        more = False
        for place, spec_bytes in self._newest_first(position, status, wanted):
            if len(chosen) == size or (chosen and total + spec_bytes > PAGE_BYTES):
                more = True
                break
            chosen.append(place)
            total += spec_bytes
        return JobPage(
            jobs=[job for job in self.read([place.job_id for place in chosen]) if job],
            next_page_token=encode_token(chosen[-1], filter_name) if more else None,
        )

    def active(self) -> dict[str, JobStatus]:
        """Return the jobs that have not ended, oldest first."""
        with translate_redis_errors():
            job_ids = [text(member) for member in self._redis.zrange(JOBS, 0, -1)]
        statuses = {job_id: status_of(status) for job_id, status in self._fields(job_ids, "status").items()}
        return {job_id: status for job_id, status in statuses.items() if status not in TERMINAL}

    def priorities(self, job_ids: Sequence[str]) -> dict[str, Priority]:
        """Return the priorities of those jobs that exist."""
        return cast(dict[str, Priority], self._fields(job_ids, "priority"))

    def _fields(self, job_ids: Sequence[str], name: str) -> dict[str, str]:
        with translate_redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(job_keys(job_id).record, name)
            values: list[Any] = pipe.execute()
        return {job_id: text(value) for job_id, value in zip(job_ids, values, strict=True) if value}

    def _newest_first(
        self, after: Position | None, status: JobStatus | None, label: tuple[str, str] | None
    ) -> Iterator[tuple[Position, int]]:
        """Yield the jobs of that status and label, or all, and the bytes of their specs; no spec is read."""
        while True:
            upper = repr(after.created_at) if after else "+inf"
            with translate_redis_errors():
                rows = self._redis.zrange(
                    JOBS, upper, "-inf", desc=True, byscore=True, withscores=True, offset=0, num=MAX_PAGE + 1
                )
            positions = [Position(score, text(member)) for member, score in rows]
            older = [position for position in positions if after is None or position < after]
            with translate_redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for position in older:
                    record = job_keys(position.job_id).record
                    pipe.hget(record, "status")
                    pipe.hstrlen(record, "spec")
                    pipe.hget(record, "labels")
                answers: list[Any] = pipe.execute()
            for position, stored, spec_bytes, labels in zip(
                older, answers[::3], answers[1::3], answers[2::3], strict=True
            ):
                if label is not None and not _has(labels, label):
                    continue
                if stored is not None and (status is None or status_of(stored) is status):
                    yield position, int(spec_bytes)
            if len(rows) <= MAX_PAGE or not older:
                return
            after = older[-1]


def _label(text: str) -> tuple[str, str]:
    """Return key and value of a label filter. Raises InvalidInput."""
    key, colon, value = text.partition(":")
    if not key or not colon:
        raise InvalidInput(f"unknown label {text[:200]!r}; expected key:value, for example project:cc3m", field="label")
    return key, value


def _has(stored: bytes | None, label: tuple[str, str]) -> bool:
    key, value = label
    labels: Any = from_json(stored) if stored else {}
    return cast(dict[str, str], labels).get(key) == value
