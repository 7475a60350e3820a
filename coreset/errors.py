"""One exception tree. Each class is one stable problem type (RFC 9457); service/problems.py maps it to HTTP.

CoresetError
├── InvalidInput            422  the caller can mend it: the spec, a shard, a checkpoint
│   ├── InvalidSpec         422  the job spec does not validate
│   ├── ShardUnreadable     422  a shard cannot be listed, opened or read as a tar
│   ├── CheckpointUnusable  422  a checkpoint cannot be loaded, or step, lr or architecture cannot be found
│   ├── PoolUnusable        422  the pool holds too little to work with
│   ├── AddressForbidden    422  a URL leads into a private network
│   └── AccuracyNotMet      422  the fast path does not agree with the exact one, in the highest precision either
├── NotFound                404  no such job, selection or file
├── Conflict                409  the job's state does not allow it
└── Unavailable             503  Redis or the storage does not answer
"""

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


class AddressForbidden(InvalidInput):
    type, title = "address-forbidden", "The URL leads into a private network"


class AccuracyNotMet(InvalidInput):
    type, title = "accuracy-not-met", "The scores are not as exact as they must be"


class NotFound(CoresetError):
    type, title, status = "not-found", "There is no such thing", 404


class Conflict(CoresetError):
    type, title, status = "conflict", "The job's state does not allow it", 409


class Unavailable(CoresetError):
    type, title, status = "unavailable", "The service cannot reach what it needs", 503
