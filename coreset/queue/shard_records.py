"""Progress and outcomes of a job's shards."""

from coreset.queue.event_entries import MAX_EVENTS, failure_entry
from coreset.queue.job_scripts import JobScripts
from coreset.redaction import redact
from coreset.redis.connection import text, translate_redis_errors
from coreset.redis.keys import COUNTERS, job_keys
from coreset.schemas.job import FailedShard
from coreset.schemas.manifest import ShardSummary


class ShardRecords:
    """Counts each shard once, however often its task runs. All methods raise Unavailable when Redis does not answer."""

    def __init__(self, scripts: JobScripts) -> None:
        self._scripts = scripts

    def start(self, job_id: str, shard: int, device: str) -> None:
        """Record that a worker scores the shard. Raises NotFound."""
        self._advance(job_id, shard, 0.0, device)

    def advance(self, job_id: str, shard: int, fraction: float) -> None:
        """Record the progress of a running shard, 0 to 1. Raises NotFound."""
        self._advance(job_id, shard, round(fraction, 4), "")

    def finish(self, job_id: str, summary: ShardSummary, resumed: bool = False) -> bool:
        """Count a scored shard.

        Args:
            resumed: its part existed already, so it is left out of the job's speed.

        Returns:
            Whether it was counted now.

        Raises:
            NotFound: there is no such job.
        """
        keys = job_keys(job_id)
        counts = [item for pair in summary.bad.items() for item in pair]
        return self._run(
            "finish_shard",
            [keys.record, keys.outcomes, keys.running, keys.devices, keys.failed, COUNTERS],
            [summary.shard, summary.device, summary.read, summary.scored, int(resumed), *counts],
            job_id,
        )

    def fail(self, job_id: str, shard: int, uri: str, message: str) -> bool:
        """Count a shard that failed for good; a scored shard stays scored. Return whether it was counted now.

        Raises:
            NotFound: there is no such job.
        """
        keys = job_keys(job_id)
        failure = FailedShard(shard=shard, uri=redact(uri), message=redact(message))
        return self._run(
            "fail_shard",
            [keys.record, keys.outcomes, keys.running, keys.failed, keys.events, COUNTERS],
            [shard, *failure_entry(failure), MAX_EVENTS],
            job_id,
        )

    def outcomes(self, job_id: str) -> dict[int, str]:
        """Return `done` or `failed` for every shard that is counted."""
        with translate_redis_errors():
            outcomes: dict[bytes, bytes] = self._scripts.redis.hgetall(job_keys(job_id).outcomes)
        return {int(shard): text(outcome) for shard, outcome in sorted(outcomes.items(), key=lambda pair: int(pair[0]))}

    def _advance(self, job_id: str, shard: int, fraction: float, device: str) -> None:
        keys = job_keys(job_id)
        self._run(
            "advance_shard", [keys.record, keys.outcomes, keys.running, keys.devices], [shard, fraction, device], job_id
        )

    def _run(self, script: str, keys: list[str], arguments: list[str | int | float], job_id: str) -> bool:
        return self._scripts.run(script, keys, arguments, job_id) == "ok"
