"""Removes what deleted jobs leave in the storage, and deletes jobs whose time is over (ttl_seconds_after_finished).

A deletion takes the job out of Redis and notes that its files are to go, in one step; the files go afterwards. So a
job that callers no longer see is never half there, and a removal that dies is done again.
"""

import contextlib
import json

import structlog

from coreset.errors import Conflict, NotFound, Unavailable
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.storage.layout import JobFolder
from coreset.storage.plan_references import remove_reference
from coreset.storage.storage import Storage

log = structlog.get_logger("coreset_service.maintenance.retention")


class Retention:
    def __init__(self, store: JobStore, queue: TaskQueue, storage: Storage) -> None:
        self._store = store
        self._queue = queue
        self._storage = storage

    def look(self) -> None:
        """Delete what is over, and remove the files of all deleted jobs.

        Raises:
            Unavailable: Redis does not answer.
        """
        for job_id in self._store.removals.expired():
            with contextlib.suppress(Conflict, NotFound):  # somebody else was faster
                self._store.delete(job_id)
                log.info("job expired", job=job_id)
        for job_id in self._store.removals.pending():
            self.clean(job_id)

    def clean(self, job_id: str) -> bool:
        """Remove the files of a deleted job, and its plan if no other job uses it. Returns whether all is gone."""
        if self._queue.census.running(job_id):  # a task that has not noticed yet would write what nobody removes
            return False
        try:
            self._remove(job_id)
        except (OSError, Unavailable) as error:
            log.warning("files of a deleted job could not be removed; tried again", job=job_id, error=repr(error))
            return False
        self._store.removals.complete(job_id)
        return True

    def _remove(self, job_id: str) -> None:
        with contextlib.suppress(NotFound):  # it failed before it had a plan
            plan_id = json.loads(self._storage.read(JobFolder(job_id).plan))["plan_id"]
            if remove_reference(self._storage, self._store.locks, plan_id, job_id):
                log.info("plan removed", plan=plan_id, job=job_id)
        self._storage.delete(JobFolder(job_id).root)
