"""The queue of tasks: RQ on Redis. Messages carry ids; jobs are in the store, plans and results in the storage.

A job's tasks (RQ's own "jobs") form a tree (coreset.queue.merge_tree):

    prepare [-> train 0..t-1] -> score 0..n-1 -> merge level 0, one node per 64 tasks -> merge level 1 ... -> finish

If the spec asks for an evaluation, finish adds its proxies and the task that follows all of them:

    trial 0..m-1 -> conclude

Ids are deterministic, so a prepare that dies half-way and runs again adds what is missing and repeats nothing. Jobs
share the workers: each caller that adds tasks reorders the list (coreset.queue.fair_order).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from redis import Redis
from rq import Callback, Retry, Worker
from rq.exceptions import DuplicateJobError
from rq.job import Dependency, JobStatus
from rq.job import Job as Task

from coreset.entry_points import TASKS_MODULE
from coreset.errors import Conflict, NotFound
from coreset.queue.fair_order import OrderKey, order_tasks, remove_job_tasks
from coreset.queue.job_store import JobStore
from coreset.queue.merge_tree import merge_levels
from coreset.queue.preflight_queue import PreflightQueue
from coreset.queue.rq_queues import BATCH, RqQueues, task_meta
from coreset.queue.task_census import PENDING, TaskCensus
from coreset.queue.task_ids import CPU, GPU, job_of, task_id
from coreset.queue.worker_census import WorkerCensus
from coreset.redis.connection import translate_redis_errors
from coreset.schemas import job as jobs

RETRIES = 2
"""Further attempts of a task whose first one raised or whose worker died."""

KEEP_RESULT_SECONDS = 24 * 3600
KEEP_FAILURE_SECONDS = 7 * 24 * 3600

_NOT_ENQUEUED = (None, JobStatus.CREATED.value)


class TaskQueue:
    """Adds a job's tasks to the queue and removes them. All methods raise Unavailable when Redis does not answer.

    Args:
        redis: a client from `coreset.redis.connection.connect`.
        tasks: the module whose prepare, train, score, merge, finish, trial, conclude and task_failed the workers call.

    Attributes:
        census: states of tasks.
        workers: live workers.
        preflights: checks of specs.
    """

    def __init__(self, redis: Redis, tasks: str = TASKS_MODULE) -> None:
        self._tasks = tasks
        self._store = JobStore(redis)
        self._queues = RqQueues(redis)
        self._redis = self._queues.redis
        self.census = TaskCensus(self._queues, self._store.task_counts)
        self.workers = WorkerCensus(self._queues)
        self.preflights = PreflightQueue(self._queues, self.workers, self._order)

    def enqueue_prepare(self, job_id: str) -> None:
        """Add the job's first task ahead of its priority's score tasks, so that a bad spec fails soon. Idempotent."""
        task = self._task(GPU, "prepare", job_id)
        with translate_redis_errors():
            try:
                self._queues.by_name[GPU].enqueue_job(task, at_front=True, unique=True)
            except DuplicateJobError:
                return
            self._order()

    def enqueue_training(self, job_id: str, stretch: int) -> None:
        """Add the task of one stretch of the job's training. The one before it adds the next. Idempotent."""
        self._store.task_counts.set_stretches(job_id, stretch + 1)
        task = self._task(GPU, "train", job_id, stretch)
        with translate_redis_errors():
            try:
                self._queues.by_name[GPU].enqueue_job(task, unique=True)
            except DuplicateJobError:
                return
            self._order()

    def enqueue_scoring(self, job_id: str, tasks: Sequence[range]) -> None:
        """Add the score tasks, the tree of merges and the finish. Idempotent.

        The dependents are registered before any score task can run: RQ reads dependencies without a lock, and would
        enqueue a merge twice whose last task ends in that moment.
        """
        self._store.task_counts.set_scores(job_id, len(tasks))
        with translate_redis_errors():
            missing = self._not_enqueued(job_id, "score", len(tasks))
            if len(missing) == len(tasks):
                self._save(job_id, "score", missing)
                self._enqueue_tree(job_id, len(tasks))
            self._push(job_id, "score", missing)
            self._order()

    def enqueue_trials(self, job_id: str, trials: int) -> None:
        """Add the tasks of the job's trials, and `conclude`, which waits for all of them. Idempotent.

        Args:
            trials: at most coreset.spec.evaluation.MAX_TRIALS.
        """
        self._store.task_counts.set_trials(job_id, trials)
        with translate_redis_errors():
            missing = self._not_enqueued(job_id, "trial", trials)
            if len(missing) == trials:
                self._save(job_id, "trial", missing)
                self._defer("conclude", job_id, (), [task_id(job_id, "trial", index) for index in range(trials)])
            self._push(job_id, "trial", missing)
            self._order()

    def cancel_tasks(self, job_id: str) -> int:
        """Remove all tasks of the job that no worker has started. Return their number.

        Dependents go first, so that none is enqueued meanwhile. A task that a worker takes in this very moment runs,
        and learns from the store that it should stop.
        """
        ids = list(self.census.ids(job_id))
        removed = 0
        with translate_redis_errors():
            for first in range(0, len(ids), BATCH):
                batch = ids[first : first + BATCH]
                statuses = self._queues.statuses(batch)
                pending = [rq_id for rq_id, status in zip(batch, statuses, strict=True) if status in PENDING]
                if pending:
                    self._queues.delete_records(pending)
                removed += len(pending)
            for queue in self._queues.by_name.values():
                remove_job_tasks(self._redis, queue.key, job_id)
        return removed

    def finish_cancel(self, job_id: str) -> bool:
        """Move a job from `cancelling` to `cancelled` if none of its tasks runs. Return whether it has ended now.

        Called by the service after a cancel and by its reconciler, and by a worker after each task. So a job stays in
        `cancelling` no longer than its running tasks, or the lease of a dead worker, last.
        """
        try:
            if self._store.status(job_id) is not jobs.JobStatus.CANCELLING:
                return False
            self.cancel_tasks(job_id)
            if self.census.running(job_id):
                return False
            self._store.transition(job_id, jobs.JobStatus.CANCELLED)
        except (NotFound, Conflict):  # deleted or ended meanwhile
            return False
        return True

    def requeue(self, rq_id: str) -> None:
        """Put a lost task at the front of its queue."""
        with translate_redis_errors():
            origin: bytes | None = self._redis.hget(Task.key_for(rq_id), "origin")
            if origin is not None:
                self._queues.by_name[origin.decode()].push_job_id(rq_id, at_front=True)

    def _task(self, queue: str, name: str, job_id: str, *indices: int, **options: Any) -> Any:
        """Return a task that is not stored yet. The worker's stall watch times it out, not RQ's alarm."""
        return self._queues.by_name[queue].create_job(
            f"{self._tasks}.{name}",
            args=[job_id, *indices],
            job_id=task_id(job_id, name, *indices),
            timeout=-1,
            retry=Retry(max=RETRIES, enqueue_at_front=True),
            on_failure=Callback(f"{self._tasks}.task_failed"),
            result_ttl=KEEP_RESULT_SECONDS,
            failure_ttl=KEEP_FAILURE_SECONDS,
            meta=task_meta(),
            description=f"{name} {' '.join(map(str, (job_id, *indices)))}",
            **options,
        )

    def _not_enqueued(self, job_id: str, name: str, tasks: int) -> list[int]:
        """Return the indices of the tasks of that name that were never enqueued."""
        statuses = self._queues.statuses([task_id(job_id, name, index) for index in range(tasks)])
        return [index for index, status in enumerate(statuses) if status in _NOT_ENQUEUED]

    def _save(self, job_id: str, name: str, indices: Sequence[int]) -> None:
        for first in range(0, len(indices), BATCH):
            with self._redis.pipeline(transaction=False) as pipe:
                for index in indices[first : first + BATCH]:
                    self._task(GPU, name, job_id, index, status=JobStatus.CREATED).save(pipeline=pipe)
                pipe.execute()

    def _enqueue_tree(self, job_id: str, tasks: int) -> None:
        levels = merge_levels(tasks)
        children = "score", ()
        for level, nodes in enumerate(levels):
            name, prefix = children
            for index, node in enumerate(nodes):
                parents = [task_id(job_id, name, *prefix, child) for child in node]
                self._defer("merge", job_id, (level, index), parents)
            children = "merge", (level,)
        top = len(levels) - 1
        self._defer("finish", job_id, (), [task_id(job_id, "merge", top, node) for node in range(len(levels[top]))])

    def _defer(self, name: str, job_id: str, indices: tuple[int, ...], parents: list[str]) -> None:
        depends_on = Dependency(jobs=cast(Any, parents), allow_failure=True)
        self._queues.by_name[CPU].enqueue_job(self._task(CPU, name, job_id, *indices, depends_on=depends_on))

    def _push(self, job_id: str, name: str, indices: Sequence[int]) -> None:
        """Enqueue tasks. A batch is one transaction, so the tasks' statuses say which were enqueued."""
        for first in range(0, len(indices), BATCH):
            with self._redis.pipeline(transaction=True) as pipe:
                for index in indices[first : first + BATCH]:
                    self._queues.by_name[GPU].enqueue_job(self._task(GPU, name, job_id, index), pipeline=pipe)
                pipe.execute()

    def _order(self) -> None:
        running = Counter(job_of(rq_id) for rq_id in self._queues.leased(GPU))
        priorities = self._store.listing.priorities(list(self._store.listing.active()))
        order_keys = {job_id: OrderKey(priority, running[job_id]) for job_id, priority in priorities.items()}
        workers = Worker.count(connection=self._redis)
        order_tasks(self._redis, self._queues.by_name[GPU].key, order_keys, workers)
