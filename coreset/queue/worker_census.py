"""Live workers, from their registrations in RQ, which expire when a worker dies."""

from rq import Worker, worker_registration

from coreset.queue.rq_queues import RqQueues
from coreset.queue.task_ids import GPU
from coreset.redis.connection import translate_redis_errors


class WorkerCensus:
    """All methods raise Unavailable when Redis does not answer."""

    def __init__(self, queues: RqQueues) -> None:
        self._queues = queues

    def count(self) -> int:
        """Return the number of live workers."""
        with translate_redis_errors():
            return Worker.count(connection=self._queues.redis)

    def names(self) -> list[str]:
        """Return the names of the live workers."""
        with translate_redis_errors():
            keys = worker_registration.get_keys(connection=self._queues.redis)
            return sorted(key.rsplit(":", 1)[-1] for key in keys if self._queues.redis.exists(key))

    def states(self) -> dict[str, str]:
        """Return `busy` or `idle` by the worker's name."""
        return {name: "busy" if state == "busy" else "idle" for name, state in self._fields("state").items()}

    def hosts(self) -> set[str]:
        """Return the names of the workers' hosts."""
        return set(self._fields("hostname").values())

    def serve_gpu(self) -> bool:
        """Return whether a live worker takes tasks from the GPU queue."""
        with translate_redis_errors():
            keys = list(worker_registration.get_keys(queue=self._queues.by_name[GPU]))
            return bool(keys and self._queues.redis.exists(*keys))

    def _fields(self, field: str) -> dict[str, str]:
        with translate_redis_errors(), self._queues.redis.pipeline(transaction=False) as pipe:
            keys = sorted(worker_registration.get_keys(connection=self._queues.redis))
            for key in keys:
                pipe.hget(key, field)
            values: list[bytes | None] = pipe.execute()
        return {key.rsplit(":", 1)[-1]: value.decode() for key, value in zip(keys, values, strict=True) if value}
