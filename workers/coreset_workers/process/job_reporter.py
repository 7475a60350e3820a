"""What a stage of a job reports to: the job store of a service, or a local job in memory."""

from typing import Protocol

from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan


class JobReporter(Protocol):
    """Receives the state, the progress and the warnings of one job.

    If the job was cancelled, `check_cancelled`, `stage`, `stage_advanced`, `shard_advanced` and `trial_advanced` raise,
    which ends the running stage.
    """

    def enter(self, status: JobStatus) -> Job:
        """Move the job to a state, and return the job."""
        ...

    def warn(self, warning: str) -> None: ...

    def heartbeat(self) -> None:
        """Record that the running stage makes progress. Cheap enough for every batch; any thread may call it."""
        ...

    def check_cancelled(self) -> None: ...

    def stage(self, stage: str, fraction: float) -> None:
        """Name the step of preparing or finishing that runs now, and the fraction of them that is done, 0 to 1."""
        ...

    def stage_advanced(self, stage: str, fraction: float) -> None:
        """Do the same as `stage`, at most every half second: cheap enough for every step of a training."""
        ...

    def planned(self, plan: Plan) -> None:
        """Record the plan of the job."""
        ...

    def shard_started(self, shard: int, device: str) -> None: ...

    def shard_advanced(self, shard: int, fraction: float) -> None: ...

    def shard_done(self, summary: ShardSummary, resumed: bool) -> None:
        """Count a shard; `resumed` if its part was in the storage already."""
        ...

    def shard_failed(self, shard: int, uri: str, message: str) -> None: ...

    def duplicates(self, duplicates: int) -> None:
        """Record the number of samples that share their uid with an earlier one."""
        ...

    def trial_advanced(self, trial: int, fraction: float, trials: int) -> None:
        """Record the progress of one trial of `trials`; a fraction of 1 ends it, whether it has an outcome or not."""
        ...
