"""Reconciler of stuck jobs: a thread of the service, of which one at a time is active among all replicas.

- A queued job without its prepare task: the service died between the two writes. The task is enqueued.
- A task in no queue and on no worker: its worker died while taking it. It is put back.
- A running job whose prepare, finish or conclude failed for good, unrecorded by the workers. The job becomes failed.
- A cancelling job without a running task: nothing settled it after its last task. It becomes cancelled.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence

import structlog

from coreset.errors import Conflict, CoresetError, NotFound
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus, Reason

log = structlog.get_logger("coreset_service.maintenance.reconciler")

SILENT_FAILURE = Reason(code="task-failed", message="a task of the job failed for good; the workers' logs say why")


class Reconciler:
    """Args:
    seconds: pause between two rounds; 0 disables the reconciler.
    chores: functions to call in every round.
    """

    def __init__(
        self, store: JobStore, queue: TaskQueue, seconds: float, chores: Sequence[Callable[[], object]] = ()
    ) -> None:
        self._store = store
        self._queue = queue
        self._seconds = seconds
        self._chores = chores
        self._suspects: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._seconds > 0:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def reconcile(self) -> list[str]:
        """Repair all stuck jobs. Returns the tasks that were put back.

        Raises:
            Unavailable: Redis does not answer.
        """
        active = self._store.active()
        for job_id, status in active.items():
            if status is JobStatus.QUEUED:
                with structlog.contextvars.bound_contextvars(request_id=self._store.request_id(job_id)):
                    self._queue.enqueue_prepare(job_id)
            elif status is JobStatus.CANCELLING:
                self._queue.settle(job_id)
        alive = [job_id for job_id, status in active.items() if status is not JobStatus.CANCELLING]
        for job_id in self._queue.failed(alive):
            fail_silent(self._store, job_id)
        return self._put_back(alive)

    def _put_back(self, alive: list[str]) -> list[str]:
        lost = set(self._queue.lost(alive))
        again = sorted(lost & self._suspects)
        self._suspects = lost - self._suspects
        for rq_id in again:
            log.warning("lost task put back", task=rq_id)
            self._queue.push_again(rq_id)
        return again

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                # Slightly less than the pause, so that the same replica usually has the next turn.
                if self._store.take_turn("reconcile", 0.9 * self._seconds):
                    self.reconcile()
                    for chore in self._chores:
                        chore()
            except CoresetError as error:
                log.warning("jobs cannot be reconciled", detail=error.detail)
            except Exception:
                log.exception("reconciling jobs failed")


def fail_silent(store: JobStore, job_id: str) -> None:
    """Mark a job as failed whose prepare, finish or conclude failed for good without being recorded."""
    with contextlib.suppress(Conflict, NotFound):  # it has ended in the meantime
        store.transition(job_id, JobStatus.FAILED, SILENT_FAILURE)
        log.error("job failed unrecorded", job=job_id)
