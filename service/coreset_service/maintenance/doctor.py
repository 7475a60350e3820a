"""Diagnosis of one job from its record, the queue and the storage, and repair of what can be repaired.

The reconciler repairs the frequent faults of all jobs by itself. The doctor examines one job on request, files too.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coreset.errors import DamagedFile, NotFound
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.diagnosis import Diagnosis, Finding
from coreset.schemas.job import TERMINAL, Job, JobStatus
from coreset.schemas.plan import Plan
from coreset.storage.examination import Examined, examine_parts, examine_prepared
from coreset.storage.layout import PlanFolder, load_manifest, load_plan, part_name, summary_name
from coreset.storage.storage import Storage
from coreset_service.maintenance.reconciler import SILENT_FAILURE, fail_silent

POST_AGAIN = "post the same spec again, which scores the missing shards only"
EXAMINE_SECONDS = 10.0
"""Seconds that one diagnosis hashes files; a file that was begun is hashed to its end."""
NAMED = 10
"""Shards or tasks that a finding names; it counts the rest."""


Found = tuple[Finding, Callable[[], object] | None]
"""A finding, and the function that repairs it."""


@dataclass(frozen=True)
class Doctor:
    """Diagnoses one job at a time. All methods raise NotFound, and Unavailable if Redis does not answer."""

    store: JobStore
    queue: TaskQueue
    storage: Storage

    def diagnose(self, job_id: str) -> Diagnosis:
        """Return the diagnosis, and change nothing."""
        return self._examine(job_id)[0]

    def mend(self, job_id: str) -> Diagnosis:
        """Repair what can be repaired, and return the diagnosis from before."""
        diagnosis, cures = self._examine(job_id)
        for cure in cures:
            cure()
        return diagnosis

    def _examine(self, job_id: str) -> tuple[Diagnosis, list[Callable[[], object]]]:
        job, tasks = self.store.get(job_id), self.queue.census.by_state(job_id)
        plan = self._plan(job.plan_id)
        sizes = self.storage.sizes(PlanFolder(plan.id).parts) if plan else {}
        found = [*self._of_the_workers(job), *self._of_the_queue(job, tasks)]
        files = checked = 0
        if plan:
            deadline = time.monotonic() + EXAMINE_SECONDS
            parts = examine_parts(self.storage, plan.id, list(_complete(plan, sizes)), deadline)
            prepared = examine_prepared(self.storage, plan.id, deadline)
            files, checked = parts.files + prepared.files, parts.checked + prepared.checked
            found += [*self._of_the_parts(job, plan, sizes, parts), *self._of_the_files(job, plan, prepared)]
        elif job.plan_id is not None:
            what = f"{PlanFolder(job.plan_id).plan} is not in the storage, or damaged"
            found.append((Finding(code="missing-plan", what=what, cure=POST_AGAIN), None))
        diagnosis = Diagnosis(
            id=job_id,
            status=job.status,
            tasks={state: len(ids) for state, ids in tasks.items() if ids},
            shards=len(plan.shards) if plan else job.progress.shards.total,
            parts=len(_complete(plan, sizes)) if plan else 0,
            files=files,
            files_checked=checked,
            findings=[finding for finding, _ in found],
        )
        return diagnosis, [cure for _, cure in found if cure is not None]

    def _of_the_workers(self, job: Job) -> Iterator[Found]:
        if job.status not in TERMINAL and not self.queue.workers.count():
            cure = "start one with `coreset up` or `python -m coreset_workers`; the log of a worker that ended says why"
            yield Finding(code="no-workers", what="no worker is alive, so nothing runs", cure=cure), None

    def _of_the_queue(self, job: Job, tasks: dict[str, list[str]]) -> Iterator[Found]:
        waiting, running = tasks["waiting"] + tasks["deferred"], tasks["running"]
        if job.status in TERMINAL:
            if waiting:
                what = f"tasks are waiting, but the job has ended: {_some(waiting)}"
                yield _repairable("orphaned-tasks", what, "removed", lambda: self.queue.cancel_tasks(job.id))
        elif job.status is JobStatus.CANCELLING:
            if not running:
                what = "the job is being cancelled, and none of its tasks runs"
                yield _repairable(
                    "not-settled", what, "the job becomes cancelled", lambda: self.queue.finish_cancel(job.id)
                )
        elif job.status is JobStatus.QUEUED and not waiting and not running:
            what = "the job is queued, but its first task is not"
            yield _repairable("prepare-missing", what, "put on the queue", lambda: self.queue.enqueue_prepare(job.id))
        elif self.queue.census.failed([job.id]):
            what = SILENT_FAILURE.message
            yield _repairable("failed-silently", what, "the job is failed", lambda: fail_silent(self.store, job.id))
        elif lost := self.queue.census.lost([job.id]):
            what = f"tasks are in no queue and on no worker: {_some(lost)}"
            again = lambda: [self.queue.requeue(task) for task in lost]  # noqa: E731
            yield _repairable("lost-tasks", what, "put back on the queue", again)

    def _of_the_parts(self, job: Job, plan: Plan, sizes: dict[str, int], examined: Examined[int]) -> Iterator[Found]:
        whole = _complete(plan, sizes)
        done = [shard for shard, outcome in self.store.shards.outcomes(job.id).items() if outcome == "done"]
        if gone := [shard for shard in done if shard not in whole]:
            what = f"shards count as done, but have no part: {_some(gone)}"
            yield Finding(code="missing-parts", what=what, cure=POST_AGAIN), None
        if half := [name for name in sizes if name.startswith(".")]:
            what = f"temporary files of workers that died or are still writing: {_some(half)}"
            paths = [f"{PlanFolder(plan.id).parts}/{name}" for name in half]
            cure, sweep = "deleted once the job has ended", lambda: self._delete(paths)
            ended = job.status in TERMINAL
            yield Finding(code="half-written", what=what, cure=cure, mendable=ended), sweep if ended else None
        if wrong := examined.damaged:
            names = [f"{PlanFolder(plan.id).parts}/{each}" for n in wrong for each in (summary_name(n), part_name(n))]
            what = f"shards have a part or a summary that is not what was written: {_some(wrong)}"
            yield _repairable("damaged-parts", what, f"deleted; then {POST_AGAIN}", lambda: self._delete(names))

    def _of_the_files(self, job: Job, plan: Plan, examined: Examined[str]) -> Iterator[Found]:
        if wrong := examined.damaged:
            what = f"prepared files are not what was written, or gone: {_some(wrong)}"
            ready = PlanFolder(plan.id).preparation
            cure = "ready.json is deleted; then post the same spec again, which prepares the plan again"
            yield _repairable("damaged-preparation", what, cure, lambda: self.storage.delete(ready))
        if job.status is JobStatus.SUCCEEDED:
            try:
                with suppress(NotFound):
                    load_manifest(self.storage, job.id)
            except DamagedFile as error:
                yield Finding(code="damaged-manifest", what=error.detail, cure=POST_AGAIN), None

    def _plan(self, plan_id: str | None) -> Plan | None:
        with suppress(NotFound, DamagedFile):
            return load_plan(self.storage, plan_id) if plan_id else None
        return None

    def _delete(self, names: list[str]) -> None:
        for name in names:
            self.storage.delete(name)


def _complete(plan: Plan, sizes: dict[str, int]) -> dict[int, int]:
    """Return the sizes of the parts that are complete, by shard: a summary is written after its part."""
    names = {shard: part_name(shard) for shard in range(len(plan.shards))}
    return {shard: sizes[name] for shard, name in names.items() if name in sizes and summary_name(shard) in sizes}


def _repairable(code: str, what: str, cure: str, do: Callable[[], object]) -> Found:
    return Finding(code=code, what=what, cure=cure, mendable=True), do


def _some(things: Sequence[object]) -> str:
    more = f" and {len(things) - NAMED:,} more" if len(things) > NAMED else ""
    return f"{', '.join(map(str, things[:NAMED]))}{more}"
