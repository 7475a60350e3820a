"""RQ tasks restricted to this package's own: Redis is a queue of names, and RQ would import and call any function."""

from typing import Any

from rq.job import Job as Task

from coreset.entry_points import PREFLIGHT_TASK, TASKS_MODULE
from coreset_workers.process.server_leases import ServerLeases

NAMES = ("prepare", "score", "merge", "finish", "trial", "conclude", "task_failed")
OWN = frozenset({PREFLIGHT_TASK, *(f"{TASKS_MODULE}.{name}" for name in NAMES)})
"""Functions that a worker calls for a message."""


class RefusedTask(Exception):
    """A message names a function that is none of this package's tasks."""


class OwnTask(Task):
    """A task whose function and callbacks are among OWN; a message that names another function fails."""

    allowed = OWN

    @property
    def func(self) -> Any:
        name, instance = self.func_name, self.instance
        if name not in self.allowed or instance is not None:
            raise RefusedTask(f"{str(name)[:200]} is none of the worker's tasks; somebody else writes to its Redis")
        return super().func

    @property
    def started_job_registry(self) -> ServerLeases:
        return ServerLeases(
            self.origin, connection=self.connection, job_class=self.__class__, serializer=self.serializer
        )

    def restore(self, raw_data: Any) -> None:
        """Read the task's fields, and drop callbacks and webhooks that are not ours."""
        super().restore(raw_data)
        for field in ("_success_callback_name", "_failure_callback_name", "_stopped_callback_name"):
            if getattr(self, field) not in self.allowed:
                setattr(self, field, None)
        self.webhooks = []
