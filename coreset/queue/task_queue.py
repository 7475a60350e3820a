"""The queue: RQ on Redis. Messages are ids; what they are about is in the store and the storage.

A job's tasks (RQ's own "jobs") form a tree (coreset.queue.merge_tree):

    prepare -> score 0..n-1 -> merge level 0, a node for 64 tasks -> merge level 1 ... -> finish

Where the spec asks for an evaluation, finish adds its proxies and what comes after all of them:

    trial 0..m-1 -> conclude

Their ids are deterministic, so a prepare that dies half-way and runs again adds what is missing and repeats nothing.
Jobs share the workers: whoever adds tasks deals the list anew (coreset.queue.fair_order).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as RedisRetry
from rq import Callback, Queue, Retry, Worker, worker_registration
from rq.exceptions import DuplicateJobError
from rq.job import Dependency, JobStatus
from rq.job import Job as Task
from rq.registry import DeferredJobRegistry, ReadyJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from coreset.entry_points import PREFLIGHT_TASK, TASKS_MODULE, WORKER_MODULE
from coreset.errors import Conflict, CoresetError, NotFound, TooManyRequests, Unavailable
from coreset.logs import request_id
from coreset.queue.fair_order import Standing, deal, withdraw
from coreset.queue.job_store import JobStore, answering, fingerprint
from coreset.queue.merge_tree import fan_in
from coreset.schemas import job as jobs
from coreset.schemas.problems import from_problem
from coreset.spec.job import JobSpec

CPU, GPU = "cpu", "gpu"
QUEUES = (CPU, GPU)
"""In the order in which a worker that serves both takes from them: merging ends jobs, so it goes first."""

RETRIES = 2
KEEP_RESULT_SECONDS = 24 * 3600
KEEP_FAILURE_SECONDS = 7 * 24 * 3600
BATCH = 1000

CHECKS = "coreset:checks"
"""Sorted set of the checks that callers wait for, `id caller`, by the time of their last poll."""
CHECKS_OF_ONE = 4
CHECKS_IN_ALL = 16
CHECK_POLLED_SECONDS = 15
"""Time after its last poll at which a check is abandoned; a polling request asks five times a second."""
CHECK_WAITS_SECONDS = 600
KEEP_CHECK_SECONDS = 60
"""An outcome that nobody fetched is kept this long, for a caller who comes back; so much may it be out of date."""

ENDS = ("prepare", "finish", "conclude")
"""Tasks without which a job does not end."""

_NOT_PUSHED = (None, JobStatus.CREATED.value)


def connect(url: str, patience: int = 30) -> Redis:
    """Return a client that rides out a restart of Redis.

    Args:
        patience: tries after a lost connection, at most 2 s apart. Workers wait long (30: about a minute); whoever
            holds a caller on the line waits less.
    """
    from_url = cast(Any, Redis.from_url)  # pyright: ignore[reportUnknownMemberType]
    return from_url(
        url,
        retry=RedisRetry(ExponentialBackoff(cap=2, base=0.2), patience),
        retry_on_error=[RedisConnectionError, RedisTimeoutError, BusyLoadingError],
        socket_connect_timeout=5,
        health_check_interval=30,
    )


class TaskQueue:
    """Puts a job's tasks on the queue and takes them off again. All methods raise Unavailable when Redis is away.

    Args:
        redis: a client from `connect`.
        tasks: the module whose prepare, score, merge, finish, trial, conclude and task_failed the workers
            call.
    """

    def __init__(self, redis: Redis, tasks: str = TASKS_MODULE) -> None:
        self._redis = cast(Any, redis)  # redis-py's and RQ's own types are partly unknown
        self._tasks = tasks
        self._store = JobStore(redis)
        self._queues: dict[str, Any] = {
            name: Queue(name, connection=redis, serializer=JSONSerializer) for name in QUEUES
        }

    def enqueue_prepare(self, job_id: str) -> None:
        """Put the job's first task on the queue, ahead of its priority's score tasks, so that a bad spec is told soon.

        Idempotent.
        """
        task = self._task(GPU, "prepare", job_id)
        with answering():
            try:
                self._queues[GPU].enqueue_job(task, at_front=True, unique=True)
            except DuplicateJobError:
                return
            self._deal()

    def enqueue_scoring(self, job_id: str, tasks: Sequence[range]) -> None:
        """Put the score tasks, the tree of merges and the finish on the queue. Idempotent.

        The dependents are registered before any score task can run: RQ looks at dependencies without a lock, and would
        push a merge twice whose last task ends in that moment.
        """
        self._store.set_tasks(job_id, len(tasks))
        with answering():
            waiting = self._not_pushed(job_id, "score", len(tasks))
            if len(waiting) == len(tasks):
                self._save(job_id, "score", waiting)
                self._enqueue_tree(job_id, len(tasks))
            self._push(job_id, "score", waiting)
            self._deal()

    def enqueue_trials(self, job_id: str, trials: int) -> None:
        """Put the trials of the job's evaluation, and its conclude, on the queue, as enqueue_scoring does. Idempotent.

        Args:
            trials: coreset.spec.evaluation.MOST_TRIALS at most, since the conclude waits for them all.
        """
        self._store.set_trials(job_id, trials)
        with answering():
            waiting = self._not_pushed(job_id, "trial", trials)
            if len(waiting) == trials:
                self._save(job_id, "trial", waiting)
                self._defer("conclude", job_id, (), [task_id(job_id, "trial", index) for index in range(trials)])
            self._push(job_id, "trial", waiting)
            self._deal()

    def check(self, spec: JobSpec, caller: str = "") -> dict[str, Any] | None:
        """Return the outcome of a check of the spec, once; None while it waits or runs. To be polled.

        A check is a task without a job, which takes turns with those of jobs. It is put on the queue unless one of this
        spec is there, and taken off when nobody polls it any more. RQ keeps its outcome; fetching it deletes it.

        Raises:
            CoresetError: what the check found wrong, or the check itself failed.
            TooManyRequests: too many checks wait, of the caller or of all.
            Unavailable: no worker is alive.
        """
        rq_id = task_id("check", fingerprint(spec)[:32])
        with answering():
            self._drop_abandoned()
            if not self._served():
                raise Unavailable(
                    f"no worker is alive to look at shards and checkpoints; start `python -m {WORKER_MODULE}`"
                )
            self._polled(rq_id, caller)
            task = self._checking(rq_id, spec)
            outcome: Any = task.latest_result()
            if outcome is None:
                return None
            task.delete()
            self._forget_check(rq_id)
        return _found(outcome)

    def check_runs(self, spec: JobSpec) -> bool:
        """Say whether a worker has taken the check of this spec."""
        with answering():
            status = self._statuses([task_id("check", fingerprint(spec)[:32])])[0]
        return status == JobStatus.STARTED.value

    def _served(self) -> bool:
        """Say whether a live worker takes tasks from the GPU queue; the key of a dead one runs out."""
        keys = list(worker_registration.get_keys(queue=self._queues[GPU]))
        return bool(keys and self._redis.exists(*keys))

    def _polled(self, rq_id: str, caller: str) -> None:
        """Note that a caller waits for a check. Raises TooManyRequests if it is one too many."""
        member = f"{rq_id} {caller}"
        waiting = [entry.decode().partition(" ") for entry in self._redis.zrange(CHECKS, 0, -1)]
        if (rq_id, " ", caller) not in waiting:
            own = sum(name == caller for _, _, name in waiting)
            if own >= CHECKS_OF_ONE or len(waiting) >= CHECKS_IN_ALL:
                limit = f"{CHECKS_OF_ONE} of this caller" if own >= CHECKS_OF_ONE else f"{CHECKS_IN_ALL} in all"
                raise TooManyRequests(f"too many checks wait ({limit} may); wait for one to end", retry_after=5)
        seconds, _ = self._redis.time()
        self._redis.zadd(CHECKS, {member: seconds})

    def _drop_abandoned(self) -> None:
        """Take the checks off the queue that nobody has polled for CHECK_POLLED_SECONDS."""
        seconds, _ = self._redis.time()
        late = self._redis.zrange(CHECKS, "-inf", seconds - CHECK_POLLED_SECONDS, byscore=True)
        if not late:
            return
        self._redis.zrem(CHECKS, *late)
        polled = {entry.split(b" ")[0] for entry in self._redis.zrange(CHECKS, 0, -1)}
        ids = [entry.split(b" ")[0].decode() for entry in late if entry.split(b" ")[0] not in polled]
        self._drop_checks(ids)

    def _drop_checks(self, ids: Sequence[str]) -> None:
        for rq_id, status in zip(ids, self._statuses(ids), strict=True):
            if status == JobStatus.QUEUED.value and self._redis.lrem(self._queues[GPU].key, 1, rq_id):
                self._remove([rq_id])

    def _forget_check(self, rq_id: str) -> None:
        entries = [entry for entry in self._redis.zrange(CHECKS, 0, -1) if entry.split(b" ")[0].decode() == rq_id]
        if entries:
            self._redis.zrem(CHECKS, *entries)

    def _checking(self, rq_id: str, spec: JobSpec) -> Any:
        queue = self._queues[GPU]
        found = queue.fetch_job(rq_id)
        if found is not None:
            return found
        task = queue.create_job(
            PREFLIGHT_TASK,
            args=[spec.model_dump(mode="json")],
            job_id=rq_id,
            timeout=-1,
            ttl=CHECK_WAITS_SECONDS,
            result_ttl=KEEP_CHECK_SECONDS,
            failure_ttl=KEEP_CHECK_SECONDS,
            meta=_meta(),
            description="check",
        )
        with suppress(DuplicateJobError):
            queue.enqueue_job(task, at_front=True, unique=True)
            self._deal()
        return task

    def drop_abandoned_checks(self) -> None:
        """Take the checks off the queue whose callers have left."""
        with answering():
            self._drop_abandoned()

    def cancel_tasks(self, job_id: str) -> int:
        """Take all tasks of the job that no worker has started off the queue. Returns how many.

        Dependents go first, so that none is freed meanwhile. A task that a worker takes in this very moment runs, and
        sees from the store that it should stop.
        """
        ids = list(self._all_ids(job_id))
        removed = 0
        with answering():
            for first in range(0, len(ids), BATCH):
                batch = ids[first : first + BATCH]
                statuses = self._statuses(batch)
                pending = [rq_id for rq_id, status in zip(batch, statuses, strict=True) if status in _PENDING]
                if pending:
                    self._remove(pending)
                removed += len(pending)
            for queue in self._queues.values():
                withdraw(self._redis, queue.key, job_id)
        return removed

    def settle(self, job_id: str) -> bool:
        """Bring a job that is being cancelled to its end if no task of it runs any more. Returns whether it has ended.

        Whoever notices calls it: the service after a cancel and when the job is looked at, a worker after each task. So
        a job stays in `cancelling` no longer than its running tasks, or the lease of a dead worker, last.
        """
        try:
            if self._store.status(job_id) is not jobs.JobStatus.CANCELLING:
                return False
            self.cancel_tasks(job_id)
            if self.running(job_id):
                return False
            self._store.transition(job_id, jobs.JobStatus.CANCELLED)
        except (NotFound, Conflict):  # somebody else has deleted or ended it
            return False
        return True

    def running(self, job_id: str) -> list[str]:
        """Return the ids of the job's tasks that a worker holds a lease on."""
        with answering():
            started = [rq_id for name in QUEUES for rq_id in self._leased(name)]
        return sorted(rq_id for rq_id in started if rq_id.startswith(f"{job_id}-"))

    def census(self, job_id: str) -> dict[str, list[str]]:
        """Return the ids of the job's tasks by state: waiting, running, deferred, ended, failed, gone.

        `gone` are those that the queue knows nothing of: not made yet, or ended long ago.
        """
        ids, running = list(self._all_ids(job_id)), set(self.running(job_id))
        with answering():
            statuses = self._statuses(ids)
        found: dict[str, list[str]] = {state: [] for state in dict.fromkeys(_STATES.values())}
        for rq_id, status in zip(ids, statuses, strict=True):
            found["running" if rq_id in running else _STATES[status]].append(rq_id)
        return found

    def lost(self, job_ids: Sequence[str]) -> list[str]:
        """Return the tasks that should wait in a queue but do not, and that no worker holds.

        RQ pops an id before it notes who runs it, so a worker that dies in between loses the task. A task may also be
        seen here that was popped a moment ago: only one that is seen twice is lost.
        """
        with answering():
            ids = [rq_id for job_id in job_ids for rq_id in self._all_ids(job_id)]
            queued = [i for i, status in zip(ids, self._statuses(ids), strict=True) if status == JobStatus.QUEUED.value]
            keys = [key for queue in self._queues.values() for key in (queue.key, queue.intermediate_queue_key)]
            waiting = {entry.decode() for key in keys for entry in self._redis.lrange(key, 0, -1)}
            held = {rq_id for name in QUEUES for rq_id in self._leased(name)}
        return [rq_id for rq_id in queued if rq_id not in waiting and rq_id not in held]

    def failed(self, job_ids: Sequence[str]) -> list[str]:
        """Return the jobs whose prepare, finish or conclude has failed for good: nothing moves them on any more."""
        ends = [(job_id, task_id(job_id, name)) for job_id in job_ids for name in ENDS]
        with answering():
            statuses = self._statuses([rq_id for _, rq_id in ends])
        dead = {job_id for (job_id, _), status in zip(ends, statuses, strict=True) if status == JobStatus.FAILED.value}
        return sorted(dead)

    def push_again(self, rq_id: str) -> None:
        """Put a lost task at the front of its queue."""
        with answering():
            origin: bytes | None = self._redis.hget(Task.key_for(rq_id), "origin")
            if origin is not None:
                self._queues[origin.decode()].push_job_id(rq_id, at_front=True)

    def depth(self) -> dict[str, int]:
        """Return the number of waiting tasks by queue."""
        with answering():
            return {name: int(self._redis.llen(queue.key)) for name, queue in self._queues.items()}

    def workers(self) -> int:
        """Return the number of live workers."""
        with answering():
            return Worker.count(connection=self._redis)

    def leased(self) -> dict[str, int]:
        """Return the number of tasks that a worker holds, by queue."""
        with answering():
            return {name: len(self._leased(name)) for name in QUEUES}

    def worker_states(self) -> dict[str, str]:
        """Return the live workers: name and `busy` or `idle`."""
        return {name: "busy" if state == "busy" else "idle" for name, state in self._of_workers("state").items()}

    def hosts(self) -> set[str]:
        """Return the names of the hosts that live workers are on."""
        return set(self._of_workers("hostname").values())

    def _of_workers(self, field: str) -> dict[str, str]:
        """Return a field of each live worker's registration, by its name; that of a dead one runs out."""
        with answering(), self._redis.pipeline(transaction=False) as pipe:
            keys = sorted(worker_registration.get_keys(connection=self._redis))
            for key in keys:
                pipe.hget(key, field)
            values: list[bytes | None] = pipe.execute()
        return {key.rsplit(":", 1)[-1]: value.decode() for key, value in zip(keys, values, strict=True) if value}

    def _task(self, queue: str, name: str, job_id: str, *indices: int, **options: Any) -> Any:
        """Make a task without putting it anywhere. Timeouts are the worker's stall watch, not RQ's alarm."""
        return self._queues[queue].create_job(
            f"{self._tasks}.{name}",
            args=[job_id, *indices],
            job_id=task_id(job_id, name, *indices),
            timeout=-1,
            retry=Retry(max=RETRIES, enqueue_at_front=True),
            on_failure=Callback(f"{self._tasks}.task_failed"),
            result_ttl=KEEP_RESULT_SECONDS,
            failure_ttl=KEEP_FAILURE_SECONDS,
            meta=_meta(),
            description=f"{name} {' '.join(map(str, (job_id, *indices)))}",
            **options,
        )

    def _not_pushed(self, job_id: str, name: str, tasks: int) -> list[int]:
        """Return the tasks of that name which have not been on the queue."""
        statuses = self._statuses([task_id(job_id, name, index) for index in range(tasks)])
        return [index for index, status in enumerate(statuses) if status in _NOT_PUSHED]

    def _save(self, job_id: str, name: str, indices: Sequence[int]) -> None:
        for first in range(0, len(indices), BATCH):
            with self._redis.pipeline(transaction=False) as pipe:
                for index in indices[first : first + BATCH]:
                    self._task(GPU, name, job_id, index, status=JobStatus.CREATED).save(pipeline=pipe)
                pipe.execute()

    def _enqueue_tree(self, job_id: str, tasks: int) -> None:
        levels = fan_in(tasks)
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
        self._queues[CPU].enqueue_job(self._task(CPU, name, job_id, *indices, depends_on=depends_on))

    def _push(self, job_id: str, name: str, indices: Sequence[int]) -> None:
        """A batch is one transaction, so what has been pushed can be told from the tasks' statuses."""
        for first in range(0, len(indices), BATCH):
            with self._redis.pipeline(transaction=True) as pipe:
                for index in indices[first : first + BATCH]:
                    self._queues[GPU].enqueue_job(self._task(GPU, name, job_id, index), pipeline=pipe)
                pipe.execute()

    def _statuses(self, rq_ids: Sequence[str]) -> list[str | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for rq_id in rq_ids:
                pipe.hget(Task.key_for(rq_id), "status")
            answers: list[bytes | None] = pipe.execute()
        return [answer.decode() if answer else None for answer in answers]

    def _remove(self, rq_ids: Sequence[str]) -> None:
        """Delete the tasks' records: a worker skips an id without one, so the list may hold it a little longer."""
        registries = [
            registry(name, connection=self._redis).key
            for registry in (DeferredJobRegistry, ReadyJobRegistry)
            for name in QUEUES
        ]
        tasks = [Task(rq_id, connection=self._redis, serializer=JSONSerializer) for rq_id in rq_ids]
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(*[key for task in tasks for key in (task.key, task.dependents_key, task.dependencies_key)])
            for key in registries:
                pipe.zrem(key, *rq_ids)
            pipe.execute()

    def _deal(self) -> None:
        running = Counter(_job_of(rq_id) for rq_id in self._leased(GPU))
        priorities = self._store.priorities(list(self._store.active()))
        standings = {job_id: Standing(priority, running[job_id]) for job_id, priority in priorities.items()}
        deal(self._redis, self._queues[GPU].key, standings, Worker.count(connection=self._redis))

    def _leased(self, queue: str) -> list[str]:
        registry = StartedJobRegistry(queue, connection=self._redis, serializer=JSONSerializer)
        seconds, _ = self._redis.time()
        entries: list[bytes] = self._redis.zrangebyscore(registry.key, seconds, "+inf")
        return [registry.parse_job_id(entry.decode()) for entry in entries]

    def _all_ids(self, job_id: str) -> Iterator[str]:
        tasks, trials = self._store.tasks(job_id), self._store.trials(job_id)
        if trials:
            yield task_id(job_id, "conclude")
            yield from (task_id(job_id, "trial", index) for index in range(trials))
        yield task_id(job_id, "finish")
        for level, nodes in reversed(list(enumerate(fan_in(tasks)))):
            yield from (task_id(job_id, "merge", level, node) for node in range(len(nodes)))
        yield from (task_id(job_id, "score", index) for index in range(tasks))
        yield task_id(job_id, "prepare")


def _job_of(rq_id: str) -> str:
    return rq_id.split("-", 1)[0]


_PENDING = (
    JobStatus.CREATED.value,
    JobStatus.QUEUED.value,
    JobStatus.DEFERRED.value,
    JobStatus.READY_TO_ENQUEUE.value,
    JobStatus.SCHEDULED.value,
)

_STATES: dict[str | None, str] = {
    **dict.fromkeys(_PENDING, "waiting"),
    JobStatus.DEFERRED.value: "deferred",
    JobStatus.STARTED.value: "running",
    JobStatus.FINISHED.value: "ended",
    JobStatus.FAILED.value: "failed",
    JobStatus.STOPPED.value: "failed",
    JobStatus.CANCELED.value: "gone",
    None: "gone",
}


def _meta() -> dict[str, str]:
    """Return what a task carries beside its ids: the request that it goes back to, for the logs of workers."""
    found = request_id()
    return {"request_id": found} if found else {}


def _found(outcome: Any) -> dict[str, Any]:
    """Return what a check found. Raises what it found wrong."""
    if outcome.type is not Result.Type.SUCCESSFUL:
        raise CoresetError("the check failed; the worker's log has the details")
    answer: dict[str, Any] = outcome.return_value
    if "problem" in answer:
        raise from_problem(answer["problem"])
    return answer["preflight"]


def task_id(job_id: str, name: str, *indices: int) -> str:
    """Return the RQ id of a task: letters, digits, `_` and `-` only, as RQ asks."""
    return "-".join([job_id, name, *map(str, indices)])
