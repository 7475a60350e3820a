"""What the doctor finds: the models, for service and client."""

from pydantic import Field

from coreset.schemas.job import JobStatus
from coreset.spec.job import Strict


class Finding(Strict):
    """Something that is not as it should be.

    Attributes:
        code: stable, for programs.
        what: in a sentence.
        cure: what mending does or did, or what the caller can do.
        mendable: whether `mend` does it.
    """

    code: str
    what: str
    cure: str
    mendable: bool = False


class Diagnosis(Strict):
    """What was found out about a job.

    Attributes:
        tasks: number by state: waiting, running, deferred, ended, failed, gone (the queue knows nothing of them).
        parts: number of shards whose part and summary are there.
        findings: none is a healthy job.
    """

    id: str
    status: JobStatus
    tasks: dict[str, int]
    shards: int
    parts: int
    findings: list[Finding] = Field(default_factory=list[Finding])
