"""RQ's registry of running tasks, with leases by Redis's clock.

RQ writes the end of a lease by the clock of the worker that has the task, and the worker that searches compares it with
its own. A worker whose clock is an hour ahead takes all others' tasks for lost, at once and again and again.
"""

from typing import Any, cast

from rq.executions import Execution
from rq.registry import StartedJobRegistry


class ServerLeases(StartedJobRegistry):
    """Running tasks by the end of their lease."""

    def add_execution(self, execution: Execution, pipeline: Any, ttl: int = 0, xx: bool = False) -> int:
        """Lease the task for `ttl` seconds from the server's present time on."""
        return pipeline.zadd(self.key, {execution.composite_key: self._now() + ttl}, xx=xx)

    def cleanup(self, timestamp: float | None = None, exception_handlers: list[Any] | None = None) -> None:
        """Put the tasks whose lease has run out at `timestamp`, or now, back on the queue."""
        super().cleanup(self._now() if timestamp is None else timestamp, exception_handlers)

    def _now(self) -> int:
        seconds, _ = cast(Any, self.connection).time()
        return int(seconds)
