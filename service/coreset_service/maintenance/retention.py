"""Retention: deletes expired jobs (ttl_seconds_after_finished), and removes the files of deleted ones.

A deletion removes the job from Redis and schedules the removal of its files in one step. So callers never see a job
without its files, and an interrupted removal is repeated.
"""

import contextlib
import json

import structlog

from coreset.errors import Conflict, DamagedFile, NotFound, Unavailable
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.storage.layout import JobFolder, PlanFolder, RunFolder
from coreset.storage.plan_references import remove_reference
from coreset.storage.runs import load_training_plan
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json

log = structlog.get_logger("coreset_service.maintenance.retention")


class Retention:
    """Deletes jobs and their files."""

    def __init__(self, store: JobStore, queue: TaskQueue, storage: Storage) -> None:
        self._store = store
        self._queue = queue
        self._storage = storage

    def sweep(self) -> None:
        """Delete the expired jobs, and remove the files of all deleted ones.

        Raises:
            Unavailable: Redis does not answer.
        """
        for job_id in self._store.removals.expired():
            with contextlib.suppress(Conflict, NotFound):  # another replica was faster
                self._store.delete(job_id)
                log.info("job expired", job=job_id)
        for job_id in self._store.removals.pending():
            self.clean(job_id)

    def clean(self, job_id: str) -> bool:
        """Remove the files of a deleted job, and those of its plan and its trained run that no other job uses.

        Returns whether all are removed.
        """
        if self._queue.census.running(job_id):  # a task that still runs would write files that nothing removes
            return False
        try:
            self._remove(job_id)
        except (OSError, Unavailable) as error:
            log.warning("files of a deleted job not removed; will be tried again", job=job_id, error=repr(error))
            return False
        self._store.removals.complete(job_id)
        return True

    def _remove(self, job_id: str) -> None:
        with contextlib.suppress(NotFound, DamagedFile):  # the job failed before it had a plan
            plan_id = load_json(self._storage, JobFolder(job_id).plan, json.loads)["plan_id"]
            if remove_reference(self._storage, self._store.locks, PlanFolder(plan_id), job_id):
                log.info("plan removed", plan=plan_id, job=job_id)
        with contextlib.suppress(NotFound, DamagedFile):  # the job trained no run
            run_id = load_training_plan(self._storage, job_id).id
            if remove_reference(self._storage, self._store.locks, RunFolder(run_id), job_id):
                log.info("run removed", run=run_id, job=job_id)
        self._storage.delete(JobFolder(job_id).root)
