"""The diagnosis of a job: differences between its record, the queue and the storage."""

from pydantic import Field

from coreset.schemas.job import JobStatus
from coreset.spec.base import FrozenModel


class Finding(FrozenModel):
    """A fault of a job.

    Attributes:
        code: stable, for programs.
        what: the fault, in a sentence.
        cure: the repair that `mend` makes or made, or what the caller can do.
        mendable: whether `mend` can repair it.
    """

    code: str
    what: str
    cure: str
    mendable: bool = False


class Diagnosis(FrozenModel):
    """The state of a job in Redis, the queue and the storage, and its faults.

    Attributes:
        tasks: number by state: waiting, running, deferred, ended, failed, gone (the queue has no record of them).
        parts: number of shards with a part and a summary.
        files: number of stored files that have a recorded sha256: a part with its summary is one.
        files_checked: number of those that were compared with it. One call compares for 10 s and the next continues,
            so ask again until all are; a service remembers the whole ones.
        findings: the faults; a healthy job has none.
    """

    id: str
    status: JobStatus
    tasks: dict[str, int]
    shards: int
    parts: int
    files: int = 0
    files_checked: int = 0
    findings: list[Finding] = Field(default_factory=list[Finding])
