"""A worker that holds a lease on its task: one process a device, no fork, so that models stay loaded between tasks.

RQ's own SimpleWorker gives a task one time-to-live of an hour and never renews it; its forking Worker would load CUDA
in every child. Here a thread renews the lease while the task runs. If the process dies, the lease runs out and another
worker runs the task again. If the process lives but the task hangs (a GPU call that never returns), the heartbeat
would keep it alive for ever; so the batch loop stamps a clock, and a process without a stamp for too long ends itself.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, cast

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker, worker_registration
from rq.executions import Execution
from rq.job import Job as Task
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from coreset_workers.process.own_tasks import OwnTask

MAINTENANCE_SECONDS = 10
"""Of the lock under which one worker looks for lost tasks. RQ holds it for 899 s when that worker is killed."""

DEQUEUE_MARGIN = 15
"""RQ blocks on an empty queue for worker_ttl less 15 s, and looks for lost tasks only between two such waits."""

log = structlog.get_logger("coreset_workers.process.lease")


class StallClock:
    """When the running task last said that it got on."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def stamp(self) -> None:
        self._last = time.monotonic()

    def silent_for(self) -> float:
        return time.monotonic() - self._last


_clock = StallClock()


def stamp() -> None:
    """Say that the running task gets on. The batch loop, and every other long loop, calls it. Cheap; any thread."""
    _clock.stamp()


def _die(silent_for: float, task: str) -> None:
    log.critical("task stalled, process ends so that another worker takes the task", task=task, silent_for=silent_for)
    os._exit(1)


class _Queue(Queue):
    """RQ's queue, whose maintenance a worker that dies in the middle of it does not hold up for 15 minutes."""

    def acquire_maintenance_lock(self) -> bool:
        """Say whether this worker is the one to look for lost tasks; the lock runs out by itself."""
        lock = cast(Any, self.connection).set(self.registry_cleaning_key, 1, nx=True, ex=MAINTENANCE_SECONDS)
        return bool(lock)


class LeaseWorker(SimpleWorker):
    """Runs tasks in this process, under a lease that a thread renews.

    SIGTERM or SIGINT: the running task ends, then the worker; a second one ends it at once.

    Args:
        queues: names, in the order in which they are served.
        lease: seconds after which a dead worker's task runs again.
        stall: seconds without a stamp after which the process ends itself.
        around: gives the context in which a task runs (coreset_workers.process.task_watch).
        task_ended: called with the RQ id of each task when it has ended, well or not.
        on_stall: called instead of ending the process; for tests.
        task_class: of the messages, which decides about the functions that they may name.
    """

    def __init__(
        self,
        queues: Sequence[str],
        connection: Redis,
        lease: float = 60.0,
        stall: float = 600.0,
        around: Callable[[Task], AbstractContextManager[object]] = lambda _: nullcontext(),
        task_ended: Callable[[str], object] = lambda _: None,
        on_stall: Callable[[float, str], None] = _die,
        task_class: type[Task] = OwnTask,
    ) -> None:
        self.lease = lease
        self.beat = lease / 3
        self.stall = stall
        self._around = around
        self._task_ended = task_ended
        self._on_stall = on_stall
        super().__init__(
            list(queues),
            connection=connection,
            serializer=JSONSerializer,
            queue_class=_Queue,
            job_class=task_class,
            worker_ttl=DEQUEUE_MARGIN + max(1, min(10, round(self.beat))),
            maintenance_interval=max(1, round(self.beat)),
            log_job_description=False,
        )
        self.log_result_lifespan = False
        # One thread for all tasks, started now: where memory is short, starting one waits for ever.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._keeper.submit(_clock.stamp).result()

    def get_heartbeat_ttl(self, job: Task, working_time: float = 0.0) -> int:
        """The lease, whatever the task's timeout."""
        return max(1, round(self.lease))

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Say that the worker lives, and who it is: a Redis that was emptied, or gave it up for dead, learns it again.

        RQ tells that at birth only. A worker would then go on unseen: preflights would say that no worker is alive.
        """
        super().heartbeat(timeout, pipeline)
        worker_registration.register(self, pipeline)
        if pipeline is None and not cast(Any, self.connection).hexists(self.key, "pid"):
            cast(Any, self.connection).hset(self.key, mapping={**self.serialize(), "state": self.get_state()})

    def _shutdown(self) -> None:
        """Remember that the worker is to stop. RQ raises an error in an idle one, wherever that is just then.

        Between two tasks a log or what follows a task may take it for an error of its own and go on: the worker would
        then work until it was killed.
        """
        self._stop_requested = True
        super()._shutdown()

    def execute_job(self, job: Task, queue: Queue) -> None:
        """Run the task here while a thread renews its lease and watches its progress."""
        with self._around(job):
            self._execute(job, queue)
            self._tell_ended(job.id)

    def _execute(self, job: Task, queue: Queue) -> None:
        execution = self.prepare_execution(job)
        ended = threading.Event()
        _clock.stamp()
        # With what the logs tell of the task.
        kept = self._keeper.submit(copy_context().run, self._keep, job, execution, ended)
        try:
            self.perform_job(job, queue, execution)
        finally:
            ended.set()
            wait([kept], timeout=self.beat)
        self.set_state(WorkerStatus.IDLE)

    def _tell_ended(self, task: str) -> None:
        try:
            self._task_ended(task)
        except Exception:
            log.exception("what follows a task failed", task=task)

    def _keep(self, job: Task, execution: Execution, ended: threading.Event) -> None:
        while not ended.wait(self.beat):
            silent_for = _clock.silent_for()
            if silent_for > self.stall:
                self._on_stall(silent_for, job.id)
                return
            self._renew(job, execution)

    def _renew(self, job: Task, execution: Execution) -> None:
        try:
            self.maintain_heartbeats(job, execution)
        except RedisError as error:  # the next beat tries again; if none gets through, the lease runs out
            log.warning("lease not renewed", task=job.id, error=str(error))
