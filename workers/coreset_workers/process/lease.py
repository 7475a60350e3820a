"""RQ worker that runs tasks under a lease, in one process per device, so that models stay loaded between tasks.

RQ's own SimpleWorker gives a task one time-to-live of an hour and never renews it; its forking Worker would load CUDA
in every child. Here a thread renews the lease while the task runs. If the process dies, the lease runs out and another
worker runs the task again. If the process lives but the task hangs (a GPU call that never returns), the thread would
renew the lease for ever; so long loops mark their progress, and a process without a mark for too long ends itself.
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
from rq.registry import DeferredJobRegistry, FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from coreset_workers.process.own_tasks import OwnTask
from coreset_workers.process.server_leases import ServerLeases

MAINTENANCE_SECONDS = 10
"""Lifetime of the lock under which one worker searches for lost tasks; RQ's own lasts 899 s if its holder is killed."""

DEQUEUE_MARGIN = 15
"""Seconds by which RQ's wait on an empty queue is shorter than worker_ttl; it searches for lost tasks between waits."""

_REGISTRIES = (ServerLeases, FinishedJobRegistry, FailedJobRegistry, DeferredJobRegistry, ReadyJobRegistry)

log = structlog.get_logger("coreset_workers.process.lease")


class ProgressClock:
    """Monotonic time of the running task's last progress mark."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def mark(self) -> None:
        self._last = time.monotonic()

    def seconds_since(self) -> float:
        return time.monotonic() - self._last


_clock = ProgressClock()


def mark_progress() -> None:
    """Record that the running task makes progress. Every long loop calls it; cheap, from any thread."""
    _clock.mark()


def _die(silent_for: float, task: str) -> None:
    log.critical(
        "task stalled; ending the process so that another worker runs the task", task=task, silent_for=silent_for
    )
    os._exit(1)


class _Queue(Queue):
    """RQ's queue with a shorter maintenance lock: RQ's own lasts 15 minutes if its holder is killed."""

    def acquire_maintenance_lock(self) -> bool:
        """Return whether this worker searches for lost tasks now; the lock expires by itself."""
        lock = cast(Any, self.connection).set(self.registry_cleaning_key, 1, nx=True, ex=MAINTENANCE_SECONDS)
        return bool(lock)


class LeaseWorker(SimpleWorker):
    """Runs tasks in this process, under a lease that a thread renews.

    SIGTERM or SIGINT: the running task ends, then the worker; a second one ends it at once.

    Args:
        queues: names, in the order in which they are served.
        lease: seconds after which a dead worker's task runs again.
        stall: seconds without a progress mark after which the process ends itself.
        task_context: returns the context in which a task runs (coreset_workers.process.task_context).
        task_ended: called with the RQ id of each task after it ended, successfully or not.
        on_stall: called with the seconds since the last mark and the task's id; ends the process.
        task_class: class of the messages, which decides about the functions that they may name.
    """

    def __init__(
        self,
        queues: Sequence[str],
        connection: Redis,
        lease: float = 60.0,
        stall: float = 600.0,
        task_context: Callable[[Task], AbstractContextManager[object]] = lambda _: nullcontext(),
        task_ended: Callable[[str], object] = lambda _: None,
        on_stall: Callable[[float, str], None] = _die,
        task_class: type[Task] = OwnTask,
    ) -> None:
        self.lease = lease
        self.beat = lease / 3
        self.stall = stall
        self._task_context = task_context
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
        self._cleaned_at: float | None = None
        # One thread for all tasks, started now: starting one when memory is short blocks for ever.
        self._lease_thread = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._lease_thread.submit(_clock.mark).result()

    def get_heartbeat_ttl(self, job: Task, working_time: float = 0.0) -> int:
        """The lease, whatever the task's timeout."""
        return max(1, round(self.lease))

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether it is time to search for lost tasks, by a clock that does not jump; RQ's own would wait an hour."""
        return self._cleaned_at is None or time.monotonic() - self._cleaned_at > self.maintenance_interval

    def clean_registries(self) -> None:
        """Search for lost tasks and drop old entries, as RQ does, but with leases by Redis's clock."""
        for queue in self.queues:
            if queue.acquire_maintenance_lock():
                for registry in _REGISTRIES:
                    registry(queue=queue, job_class=self.job_class, serializer=self.serializer).cleanup()
                worker_registration.clean_worker_registry(queue)
                queue.intermediate_queue.cleanup(self, queue)
                queue.release_maintenance_lock()
        self._cleaned_at = time.monotonic()

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Renew the worker's registration along with its heartbeat.

        RQ registers a worker at its start only. After Redis was emptied, or took the worker for dead, it would work
        unregistered, and preflights would answer that no worker is alive.
        """
        super().heartbeat(timeout, pipeline)
        worker_registration.register(self, pipeline)
        if pipeline is None and not cast(Any, self.connection).hexists(self.key, "pid"):
            cast(Any, self.connection).hset(self.key, mapping={**self.serialize(), "state": self.get_state()})

    def _shutdown(self) -> None:
        """Remember the request to stop. RQ only raises StopRequested in an idle worker.

        Code that runs between two tasks may catch that error as one of its own; the worker would then never stop.
        """
        self._stop_requested = True
        super()._shutdown()

    def execute_job(self, job: Task, queue: Queue) -> None:
        """Run the task in this thread while another renews its lease and watches its progress."""
        with self._task_context(job):
            self._execute(job, queue)
            self._after_task(job.id)

    def _execute(self, job: Task, queue: Queue) -> None:
        execution = self.prepare_execution(job)
        ended = threading.Event()
        _clock.mark()
        # A copy of the context, so that the thread's log lines carry the task's ids.
        renewing = self._lease_thread.submit(copy_context().run, self._renew_until, job, execution, ended)
        try:
            self.perform_job(job, queue, execution)
        finally:
            ended.set()
            wait([renewing], timeout=self.beat)
        self.set_state(WorkerStatus.IDLE)

    def _after_task(self, task: str) -> None:
        try:
            self._task_ended(task)
        except Exception:
            log.exception("error after the end of a task", task=task)

    def _renew_until(self, job: Task, execution: Execution, ended: threading.Event) -> None:
        while not ended.wait(self.beat):
            seconds = _clock.seconds_since()
            if seconds > self.stall:
                self._on_stall(seconds, job.id)
                return
            self._renew(job, execution)

    def _renew(self, job: Task, execution: Execution) -> None:
        try:
            # RQ writes the heartbeat alone; a record that expired while this process was frozen would come back
            # without its other fields, and reading it would fail.
            self.connection.hset(execution.key, mapping=execution.serialize())
            self.maintain_heartbeats(job, execution)
        except RedisError as error:  # the next renewal may work; if none does, the lease runs out
            log.warning("lease not renewed", task=job.id, error=str(error))
