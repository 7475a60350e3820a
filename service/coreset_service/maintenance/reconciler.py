"""Looks after jobs that nobody would move on any more. Runs in the service, in a thread; one at a time of all services.

- queued, but its prepare is not on the queue: the service died between the two. It is put there.
- a task that neither a queue nor a worker accounts for: its worker died in the moment of taking it. It is put back.
- not ended, but its prepare, finish or conclude has failed for good, and the workers could not say so. It has failed.
- cancelling, and nothing runs: nobody has looked since the last task ended. It is cancelled.
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
    seconds: between two looks; 0 never starts.
    chores: what else is to be done at every look.
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

    def look(self) -> list[str]:
        """Mend what can be mended. Returns the tasks that were put back.

        Raises:
            Unavailable: Redis does not answer.
        """
        active = self._store.listing.active()
        for job_id, status in active.items():
            if status is JobStatus.QUEUED:
                with structlog.contextvars.bound_contextvars(request_id=self._store.request_id(job_id)):
                    self._queue.enqueue_prepare(job_id)
            elif status is JobStatus.CANCELLING:
                self._queue.finish_cancel(job_id)
        alive = [job_id for job_id, status in active.items() if status is not JobStatus.CANCELLING]
        for job_id in self._queue.census.failed(alive):
            fail_silent(self._store, job_id)
        return self._put_back(alive)

    def _put_back(self, alive: list[str]) -> list[str]:
        lost = set(self._queue.census.lost(alive))
        again = sorted(lost & self._suspects)
        self._suspects = lost - self._suspects
        for rq_id in again:
            log.warning("lost task put back", task=rq_id)
            self._queue.requeue(rq_id)
        return again

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                # A little less than the pause, so that the same service has the next turn as a rule.
                if self._store.locks.acquire("reconcile", 0.9 * self._seconds):
                    self.look()
                    for chore in self._chores:
                        chore()
            except CoresetError as error:
                log.warning("cannot look after jobs", detail=error.detail)
            except Exception:
                log.exception("looking after jobs failed")


def fail_silent(store: JobStore, job_id: str) -> None:
    """Let a job fail whose prepare, finish or conclude has failed for good, and whose workers could not say so."""
    with contextlib.suppress(Conflict, NotFound):  # it has ended meanwhile
        store.transition(job_id, JobStatus.FAILED, SILENT_FAILURE)
        log.error("job failed without a word", job=job_id)
