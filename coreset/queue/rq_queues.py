"""RQ's queues and their records, read in batches. The only module that reads RQ's private keys with task_queue."""

from collections.abc import Sequence
from typing import Any, cast

from redis import Redis
from rq import Queue
from rq.job import Job as Task
from rq.registry import DeferredJobRegistry, ReadyJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from coreset.logs import request_id
from coreset.queue.task_ids import QUEUES

BATCH = 1000
"""Tasks per round trip."""


class RqQueues:
    """The queues by name. Callers translate Redis's errors.

    Args:
        redis: a client from `coreset.redis.connection.connect`.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = cast(Any, redis)  # redis-py's and RQ's own types are partly unknown
        self.by_name: dict[str, Any] = {
            name: Queue(name, connection=redis, serializer=JSONSerializer) for name in QUEUES
        }

    def statuses(self, rq_ids: Sequence[str]) -> list[str | None]:
        """Return RQ's status of each task, None for those without a record."""
        with self.redis.pipeline(transaction=False) as pipe:
            for rq_id in rq_ids:
                pipe.hget(Task.key_for(rq_id), "status")
            statuses: list[bytes | None] = pipe.execute()
        return [status.decode() if status else None for status in statuses]

    def leased(self, queue: str) -> list[str]:
        """Return the ids of the queue's tasks that a worker has a lease on."""
        registry = StartedJobRegistry(queue, connection=self.redis, serializer=JSONSerializer)
        seconds, _ = self.redis.time()
        entries: list[bytes] = self.redis.zrangebyscore(registry.key, seconds, "+inf")
        return [registry.parse_job_id(entry.decode()) for entry in entries]

    def delete_records(self, rq_ids: Sequence[str]) -> None:
        """Delete the tasks' records. The list may keep their ids a little longer: a worker skips an id without one."""
        registries = [
            registry(name, connection=self.redis).key
            for registry in (DeferredJobRegistry, ReadyJobRegistry)
            for name in QUEUES
        ]
        tasks = [Task(rq_id, connection=self.redis, serializer=JSONSerializer) for rq_id in rq_ids]
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(*[key for task in tasks for key in (task.key, task.dependents_key, task.dependencies_key)])
            for key in registries:
                pipe.zrem(key, *rq_ids)
            pipe.execute()


def task_meta() -> dict[str, str]:
    """Return what a task carries beside its ids: the request that caused it, for the workers' logs."""
    request = request_id()
    return {"request_id": request} if request else {}
