"""Scripts that change one job, with the errors that all of them share."""

from typing import Any, NoReturn, cast

from redis import Redis

from coreset.errors import NotFound
from coreset.redis.connection import text, translate_redis_errors
from coreset.redis.keys import job_keys
from coreset.redis.scripts import Scripts


class JobScripts:
    """Runs scripts on the records of jobs.

    Args:
        redis: a client that returns bytes (coreset.redis.connection.connect).
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = cast(Any, redis)  # redis-py's own types are partly unknown
        self._scripts = Scripts(self.redis)

    def run(self, name: str, keys: list[str], arguments: list[Any], job_id: str | None = None) -> str:
        """Return the answer of a script as text.

        Raises:
            NotFound: the script found no record of `job_id`.
            Unavailable: Redis does not answer.
        """
        with translate_redis_errors():
            answer = text(self._scripts.run(name, keys, arguments))
        if answer == "missing" and job_id is not None:
            raise_missing(job_id)
        return answer

    def set_fields(self, job_id: str, *fields: str | float) -> None:
        """Set fields of the job's record, given as name, value, name, value. Raises NotFound."""
        self.run("set_fields", [job_keys(job_id).record], list(fields), job_id)

    def field(self, job_id: str, name: str) -> str | None:
        """Return a field of the job's record, or None if there is none."""
        with translate_redis_errors():
            value = self.redis.hget(job_keys(job_id).record, name)
        return None if value is None else text(value)


def raise_missing(job_id: str) -> NoReturn:
    raise NotFound(f"there is no job {job_id}", id=job_id)
