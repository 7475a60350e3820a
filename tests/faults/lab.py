"""A whole service on this machine, made to be broken: what the faults are done to, and what must hold afterwards."""

import hashlib
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self, cast

from redis import Redis
from rq import Worker
from rq.serializers import JSONSerializer

from coreset.client import Client
from coreset.local import stack as server
from coreset.local.stack import Child, LocalStack
from coreset.queue.task_ids import QUEUES
from coreset.schemas.job import TERMINAL, Job, JobStatus

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 3.0
STALL_SECONDS = 15.0
PATIENCE_SECONDS = 120.0
STRIKES = 5
"""At most, until one hits."""
LOOKS = 200
"""At the tasks that run, between two at the job: a merge takes milliseconds."""

Condition = Callable[[], object]
Strike = Callable[["Lab", Random], float]
"""What is done to a running job. Returns the seconds that it took to recover. Raises Missed, AssertionError."""


class NotSoon(AssertionError):
    """Something did not become true in time."""


class Missed(AssertionError):
    """The job was over, or past a status, before it was struck: nothing was tried."""


@dataclass(frozen=True)
class Undisturbed:
    """What a job gives that nobody disturbs.

    Attributes:
        parts: sha256 of each part by name.
        subset: sha256 of subset.npy.
        counts: (read, scored, bad by reason).
    """

    parts: dict[str, str]
    subset: str
    counts: tuple[int, int, dict[str, int]]


def until(true: Condition, what: str, seconds: float = PATIENCE_SECONDS, pause: float = 0.01) -> float:
    """Wait until something is true. Returns the seconds that it took. Raises NotSoon."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > seconds:
            raise NotSoon(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
    return time.monotonic() - started


def alive(pid: int) -> bool:
    """Whether a process lives; one that is dead and not yet waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Lab:
    """Redis with an append-only file, the service, and workers that are started again when they die.

    Attributes:
        spec: of the job that is disturbed.
        undisturbed: what it gives when it is left alone; known after `observe`.
        clocks: folder of the seconds by which the clock of a process is shifted, by pid; None if none can be.
    """

    stack: LocalStack
    client: Client
    redis: Redis
    spec: dict[str, Any]
    shards: list[Path]
    undisturbed: Undisturbed | None = None
    plan_id: str = ""
    clocks: Path | None = None

    # ---- the job

    def observe(self) -> Self:
        """Let the job run undisturbed, and remember what it gives."""
        job = self.ended(self.submit())
        assert job.status is JobStatus.SUCCEEDED, job.reason
        self.plan_id = str(job.plan_id)
        self.undisturbed = self._given(job)
        return self

    def submit(self, **changes: Any) -> str:
        """Post the job: what is computed of its plan stays. Returns its id."""
        return self.client.submit({**self.spec, **changes}).id

    def begin(self, **changes: Any) -> str:
        """Post the job with nothing computed and all workers ready. Returns its id."""
        self.clear()
        return self.submit(**changes)

    def clear(self) -> None:
        """Take away all that was computed of the plan, and wait until all workers are ready."""
        shutil.rmtree(self.plan_folder, ignore_errors=True)
        self.ready()

    def get(self, job_id: str) -> Job:
        return self.client.get(job_id)

    def status(self, job_id: str) -> JobStatus:
        return self.get(job_id).status

    def ended(self, job_id: str) -> Job:
        return self.client.wait(job_id, timeout=PATIENCE_SECONDS)

    def reach(self, job_id: str, status: JobStatus) -> None:
        """Wait until the job has reached a status. Raises Missed."""

        def there() -> bool:
            now = self.status(job_id)
            if now in TERMINAL:
                raise Missed(f"the job is {now} and was not caught {status}")
            return now is status

        until(there, f"job {status}", pause=0.005)

    def shards_done(self) -> int:
        return len(list(self.parts_folder.glob("[0-9]*.json")))

    # ---- what must hold

    def assert_undisturbed(self, job_id: str) -> Job:
        """Wait for the job's end. Every shard is accounted for once, and no bit is another than without the fault."""
        job = self.ended(job_id)
        assert job.status is JobStatus.SUCCEEDED, f"{job.status}: {job.reason}"
        done, total = job.progress.shards.done, len(self.shards)
        assert (done, job.progress.shards.failed) == (total, 0), f"{done} of {total} shards are done"
        given = self._given(job)
        assert given.counts == cast(Undisturbed, self.undisturbed).counts, "samples were not counted once"
        assert given == self.undisturbed, "scores are not identical"
        return job

    def _given(self, job: Job) -> Undisturbed:
        subset = self.client.result(job.id).selection.files["subset.npy"].sha256
        counts = job.progress.samples
        return Undisturbed(self.parts(), subset, (counts.read, counts.scored, dict(sorted(counts.bad.items()))))

    def parts(self) -> dict[str, str]:
        found = sorted(self.parts_folder.glob("[0-9]*.parquet"))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def assert_others(self, shard: int) -> None:
        """All parts but that of one shard are there, and no bit of them is another than without the fault."""
        assert self.undisturbed is not None
        others = {name: sha for name, sha in self.undisturbed.parts.items() if name != f"{shard:06d}.parquet"}
        assert self.parts() == others, "the other shards' scores are not identical"

    def times(self) -> dict[str, int]:
        """Return when each part and summary was last written, by name."""
        return {path.name: path.stat().st_mtime_ns for path in self.parts_folder.glob("[0-9]*")}

    def assert_no_orphan(self, job_id: str) -> None:
        """No task of the job waits in a queue or is held by a worker."""
        waiting = [entry for key in self.redis.scan_iter("rq:queue:*") for entry in self._members(key)]
        left = [entry for entry in (*waiting, *self._held()) if job_id.encode() in entry and self._recorded(entry)]
        assert not left, f"tasks are left: {left}"

    def _members(self, key: bytes) -> list[bytes]:
        return cast(list[bytes], self.redis.lrange(key, 0, -1) if self.redis.type(key) == b"list" else [])

    def _recorded(self, entry: bytes) -> bool:
        return bool(self.redis.exists(b"rq:job:" + entry.split(b":")[0]))

    # ---- files

    @property
    def plan_folder(self) -> Path:
        return Path(self.stack.storage) / "plans" / self.plan_id

    @property
    def parts_folder(self) -> Path:
        return self.plan_folder / "parts"

    # ---- processes

    @property
    def service(self) -> Child:
        return self.stack.children[0]

    @property
    def workers(self) -> list[Child]:
        return self.stack.children[1:]

    def ready(self) -> None:
        """Wait until every worker process that should be there is alive and known to the queue."""

        def known() -> bool:
            pids = {child.process.pid for child in self.workers if child.process is not None}
            return all(map(alive, pids)) and pids <= {worker.pid for worker in self._registered()}

        until(known, "all workers at work", 60)

    def jump(self, child: Child, seconds: int) -> None:
        """Shift a process's clock from its true time, and let it notice."""
        assert self.clocks is not None
        assert child.process is not None
        (self.clocks / str(child.process.pid)).write_text(str(seconds))
        time.sleep(0.2)

    def stop_workers(self) -> None:
        self._tell_workers(signal.SIGSTOP)

    def wake_workers(self) -> None:
        self._tell_workers(signal.SIGCONT)

    def _tell_workers(self, which: signal.Signals) -> None:
        for child in self.workers:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(which)

    def catch(self, kind: str, job_id: str) -> tuple[int, str]:
        """Wait until a worker runs a task of a kind (prepare, score, score-7, merge, finish) of the job.

        Returns its pid and the task. All workers are stopped then, so it holds the task still, until `wake_workers`.
        Raises Missed.
        """
        prefix = f"{job_id}-{kind}".encode()
        found: list[tuple[int, str]] = []

        looks = itertools.count(1)

        def caught() -> bool:
            if next(looks) % LOOKS == 0:
                self.require_going(job_id, f"no {kind} task was caught")
            if not any(self._is(kind, entry.split(b":")[0], prefix) for entry in self._held()):
                return False
            self.stop_workers()
            found.extend(self._holders(prefix, kind))
            if not found:  # it has just ended
                self.wake_workers()
            return bool(found)

        until(caught, f"a {kind} task running", pause=0)
        return found[0]

    def require_going(self, job_id: str, what: str) -> None:
        """Raise Missed, saying what has not been, if the job has ended."""
        if self.status(job_id) in TERMINAL:
            raise Missed(f"the job has ended, and {what}")

    def _held(self) -> list[bytes]:
        return [entry for name in QUEUES for entry in cast(Any, self.redis.zrange(f"rq:wip:{name}", 0, -1))]

    def _holders(self, prefix: bytes, kind: str) -> list[tuple[int, str]]:
        running = [(w.pid, w.get_current_job_id()) for w in self._registered() if alive(w.pid)]
        mine = [(pid, task) for pid, task in running if task and self._is(kind, task.encode(), prefix)]
        return [(pid, task) for pid, task in mine if self.redis.hget(f"rq:job:{task}", "status") == b"started"]

    @staticmethod
    def _is(kind: str, task: bytes, prefix: bytes) -> bool:
        """A kind with a number means this task alone."""
        return task == prefix if kind[-1].isdigit() else task.startswith(prefix)

    def _registered(self) -> list[Any]:
        return Worker.all(connection=self.redis, serializer=JSONSerializer)

    def again(self, task: str, since: float) -> float:
        """Wait until a task that lost its worker is taken again or has ended. Returns seconds since `since`."""
        key = f"rq:job:{task}"
        before = cast(Any, self.redis.hget(key, "started_at"))

        def taken() -> bool:
            status, started = cast(Any, self.redis.hmget(key, "status", "started_at"))
            return status is None or status == b"finished" or started != before

        until(taken, f"{task}, {self.redis.hgetall(key)}, taken again", pause=0.02)
        return time.monotonic() - since


def struck(strike: Strike, lab: Lab, random: Random) -> float:
    """Strike a job, and another one where it was over before it was struck. Returns the seconds of the one that hit."""
    for _ in range(STRIKES - 1):
        with suppress(Missed):
            return strike(lab, random)
    return strike(lab, random)


@contextmanager
def lab(
    folder: Path, shards: list[Path], run: Path, workers: int = 2, storage: str = "", clock: Path | None = None
) -> Iterator[Lab]:
    """Start everything below a folder.

    Args:
        shards: of the pool, in one folder.
        run: the training's.
        clock: library that shifts clocks (tests.faults.clocks).
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CORESET_LEASE_SECONDS": str(LEASE_SECONDS),
        "CORESET_STALL_MINUTES": str(STALL_SECONDS / 60),
        "CORESET_LOADER_PROCESSES": "0",
        "CORESET_RECONCILE_SECONDS": "2",
    }
    clocks = folder.with_name(f"{folder.name}-clocks") if clock else None
    if clocks is not None:
        clocks.mkdir()
        environment |= {"LD_PRELOAD": str(clock), "FAULT_CLOCKS": str(clocks)}
    spec = {
        "pool": {"shards": [str(path) for path in shards]},
        "checkpoints": {"run": str(run)},
        "reference": {"size": 24},
        "select": {"k": 40},
    }
    server.LIVED_WELL_SECONDS = 0.0  # workers are killed so often here that the pauses before they start would grow
    stack = LocalStack(folder, environment, port=0, workers=workers, storage=storage)
    with stack, Client(stack.url) as client, Redis.from_url(stack.redis_url) as redis:
        found = Lab(stack, client, redis, spec, shards, clocks=clocks)
        found.ready()
        yield found
