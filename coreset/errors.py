"""One exception tree. Each class is one stable problem type (RFC 9457); coreset_service.http.problems maps it.

CoresetError
├── InvalidInput            422  the caller can correct it: the spec, a shard, a checkpoint
│   ├── InvalidSpec         422  the job spec does not validate
│   ├── ShardUnreadable     422  a shard cannot be listed, opened or read as a tar
│   ├── CheckpointUnusable  422  a checkpoint cannot be loaded, or step, lr or architecture cannot be found
│   ├── PoolUnusable        422  the pool holds too little to work with
│   ├── LocationForbidden   422  a path or URI of a spec is not one that workers may read
│   ├── AddressForbidden    422  a URL leads into a private network
│   └── AccuracyNotMet      422  the fast path does not agree with the exact one, in the highest precision either
├── Unauthorized            401  no API key, or one that is not valid
├── Forbidden               403  the key's scopes do not allow it, or another site's page asks
├── NotFound                404  no such job, selection or file
├── Conflict                409  the job's state does not allow it
├── TooManyRequests         429  come back later
│   ├── TooManyOpenJobs     429  as many jobs of this key are open as may be
│   ├── StoredSpecsFull     429  the specs of this key's jobs, the ended ones too, have as many bytes as they may
│   └── QueueFull           429  as many tasks wait as may wait
├── DamagedFile             500  a stored file is not what was written
└── Unavailable             503  Redis or the storage does not answer
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

from coreset.redaction import redact, redact_all


class CoresetError(Exception):
    """An error with a stable `type`, a sentence for people, and data for programs.

    Args:
        detail: what is wrong and the way out, in one or two sentences. Shown to callers, so secrets are taken out.
        data: what it is about: uri, key, field, expected, got; without secrets too.
    """

    type: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on our side"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, **data: Any) -> None:
        self.detail = redact(detail)
        super().__init__(self.detail)
        self.data: dict[str, Any] = redact_all(data)


class InvalidInput(CoresetError):
    type, title, status = "invalid-input", "The input cannot be used", 422


class InvalidSpec(InvalidInput):
    type, title = "invalid-spec", "The job spec is not valid"


class ShardUnreadable(InvalidInput):
    type, title = "shard-unreadable", "A shard cannot be read"


class CheckpointUnusable(InvalidInput):
    type, title = "checkpoint-unusable", "A checkpoint cannot be used"


class PoolUnusable(InvalidInput):
    type, title = "pool-unusable", "The pool cannot be used"


class LocationForbidden(InvalidInput):
    type, title = "location-forbidden", "A path or URI is not allowed"


class AddressForbidden(InvalidInput):
    type, title = "address-forbidden", "The URL leads into a private network"


class AccuracyNotMet(InvalidInput):
    type, title = "accuracy-not-met", "The scores are not as exact as they must be"


class Unauthorized(CoresetError):
    type, title, status = "unauthorized", "A valid API key is needed", 401


class Forbidden(CoresetError):
    type, title, status = "forbidden", "This is not allowed", 403


class TooManyRequests(CoresetError):
    type, title, status = "too-many-requests", "Too many requests; come back later", 429


class TooManyOpenJobs(TooManyRequests):
    type, title = "too-many-open-jobs", "Too many jobs of this key are open"


class StoredSpecsFull(TooManyRequests):
    type, title = "stored-specs-full", "The jobs of this key have too many bytes of specs"


class QueueFull(TooManyRequests):
    type, title = "queue-full", "Too many tasks wait already"


class NotFound(CoresetError):
    type, title, status = "not-found", "There is no such thing", 404


class Conflict(CoresetError):
    type, title, status = "conflict", "The job's state does not allow it", 409


class DamagedFile(CoresetError):
    type, title, status = "damaged-file", "A stored file is damaged", 500


class Unavailable(CoresetError):
    type, title, status = "unavailable", "The service cannot reach what it needs", 503


@contextmanager
def needs_extra(extra: str, what: str) -> Generator[None]:
    """Name the extra to install if an import in this block fails for a library that is not installed.

    Raises:
        InvalidInput: a library of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        raise InvalidInput(
            f"{what} needs {library}, which is not installed: pip install 'coreset[{extra}]'",
            library=library,
            extra=extra,
        ) from error
