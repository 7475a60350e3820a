"""Functions that messages of the queue name: each runs one stage of a job (coreset_workers.pipeline) or a preflight.

Messages carry ids only; the plan and the parts are in the storage.
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import structlog
from pydantic import ValidationError
from redis import Redis
from rq.exceptions import AbandonedJobError
from rq.job import Job as Task
from structlog.contextvars import bound_contextvars

from coreset.errors import Conflict, CoresetError, NotFound, Unavailable
from coreset.queue.job_record import mistakes
from coreset.redaction import redact_model
from coreset.schemas.job import JobStatus, Reason
from coreset.schemas.problems import to_problem
from coreset.spec.job import JobSpec
from coreset.storage.plan_references import add_reference
from coreset.storage.verified import Damage, damage_counts, take_damage
from coreset_workers.pipeline import JobPipeline
from coreset_workers.process.lease import mark_progress
from coreset_workers.process.queue_reporter import Cancelled, QueueReporter
from coreset_workers.process.runtime import Runtime, current
from coreset_workers.process.task_context import attempt_of, ids_of, name_of
from coreset_workers.resources import Resources
from coreset_workers.stages.preflight import preflight

log = structlog.get_logger("coreset_workers.tasks")


def prepare(job_id: str) -> None:
    """Plan and prepare the job, then enqueue its score tasks."""

    def stage(job: JobPipeline) -> None:
        plan = job.prepare()
        current().queue.enqueue_scoring(job_id, plan.tasks())
        job.reporter.enter(JobStatus.SCORING)

    _run(job_id, stage, errors_end_job=True)


def score(job_id: str, task: int) -> None:
    """Score the shards of one task."""
    _run(job_id, lambda job: job.score(task))


def merge(job_id: str, level: int, index: int) -> None:
    """Add up the counts of one node of the job's merge tree."""
    _run(job_id, lambda job: job.merge(level, index))


def finish(job_id: str) -> None:
    """Select, report and write the manifest; then end the job, or enqueue the trials of its evaluation."""

    def stage(job: JobPipeline) -> None:
        _, trials = job.finish()
        if trials:
            current().queue.enqueue_trials(job_id, trials)
        else:
            job.reporter.enter(JobStatus.SUCCEEDED)

    _run(job_id, stage, errors_end_job=True)


def trial(job_id: str, index: int) -> None:
    """Train and test one proxy of the job's evaluation."""
    _run(job_id, lambda job: job.trial(index))


def conclude(job_id: str) -> None:
    """Report what the proxies measured, and end the job."""

    def stage(job: JobPipeline) -> None:
        job.conclude()
        job.reporter.enter(JobStatus.SUCCEEDED)

    _run(job_id, stage)


def check(spec: dict[str, Any]) -> dict[str, Any]:
    """Return {"preflight": ...} or {"problem": ...} for a job spec as JSON.

    A problem is a value since exceptions do not travel through the queue.
    """
    try:
        found = preflight(_own_spec(spec), current().storage, mark_progress)
    except CoresetError as error:
        return {"problem": to_problem(error)}
    return {"preflight": redact_model(found).model_dump(mode="json")}


def _own_spec(spec: dict[str, Any]) -> JobSpec:
    """Return a spec that the service has validated. Raises Unavailable if this worker's version does not know it."""
    try:
        return JobSpec.model_validate(spec)
    except ValidationError as error:
        raise Unavailable(f"a worker of another version cannot read the spec: {mistakes(error)}") from error


def task_failed(
    task: Task, connection: Redis, kind: type[BaseException], error: BaseException, traceback: TracebackType
) -> None:
    """Record a failed attempt of a task. RQ calls this at every attempt, also for the task of a dead worker."""
    runtime = current()
    with bound_contextvars(**ids_of(task)):
        if issubclass(kind, AbandonedJobError):
            log.warning("lease expired: the task's worker died or lost its connection")
            runtime.totals.add({"leases_expired": 1})
        if not task.should_retry:
            _failed_for_good(runtime, task, kind, error)


def _failed_for_good(runtime: Runtime, task: Task, kind: type[BaseException], error: BaseException) -> None:
    job_id, name = str(task.args[0]), name_of(task)
    runtime.totals.add({f"failures:{name}": 1})
    message = f"{name} failed {attempt_of(task)} times; the last time: {_describe(kind, error)}"
    log.error("task failed", error=repr(error))
    if name == "score":
        _pipeline(runtime, job_id).fail_score(int(task.args[1]), message)
    elif name == "trial":
        _pipeline(runtime, job_id).fail_trial(int(task.args[1]), message, runtime.store.task_counts.trials(job_id))
    else:
        _fail(runtime, job_id, Reason(code="task-failed", message=message))


def _describe(kind: type[BaseException], error: BaseException) -> str:
    """Describe an error without its own text, which may contain what callers should not see."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left in the storage; free some and post the same spec again"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "the storage cannot be written; make it writable for the workers and post the same spec again"
    return error.detail if isinstance(error, CoresetError) else f"{kind.__name__}; the worker's log has the details"


def _run(job_id: str, stage: Callable[[JobPipeline], object], errors_end_job: bool = False) -> None:
    """Run a stage unless the job is cancelled. An exception makes the queue try again.

    Args:
        errors_end_job: a CoresetError fails the job at once, except Unavailable, which may pass.
    """
    runtime = current()
    job = _pipeline(runtime, job_id)
    _count(runtime, take_damage())  # of a preflight or another job's task
    try:
        job.reporter.check_cancelled()
        if not _refused(runtime, job_id):
            stage(job)
    except Cancelled:
        log.info("cancelled")
    except Unavailable:
        raise
    except CoresetError as error:
        if not errors_end_job:
            raise
        _fail(runtime, job_id, Reason(code=error.type, message=error.detail))
    finally:
        with suppress(NotFound):  # the job was deleted
            _count(runtime, job.report_damage())


def _refused(runtime: Runtime, job_id: str) -> bool:
    """Return whether this version cannot read the job's record; then fail the job if its state allows that.

    What it can read of a spec is another job: it must not be run in the place of the caller's.
    """
    job = runtime.store.get(job_id)
    if job.status is not JobStatus.UNREADABLE or job.reason is None:
        return False
    log.error("job refused", job=job_id, reason=job.reason.message)
    _fail(runtime, job_id, Reason(code=job.reason.code, message=f"a worker refused the job: {job.reason.message}"))
    return True


def _fail(runtime: Runtime, job_id: str, reason: Reason) -> None:
    """Fail the job, unless it was deleted or its state, which another version may have stored, does not allow that."""
    try:
        runtime.store.transition(job_id, JobStatus.FAILED, reason)
    except (NotFound, Conflict) as error:
        log.warning("job not failed", detail=error.detail)


def _count(runtime: Runtime, found: list[Damage]) -> None:
    """Count damaged files by kind."""
    if found:
        runtime.totals.add(damage_counts(found))


def _pipeline(runtime: Runtime, job_id: str) -> JobPipeline:
    resources = _resources(runtime)
    reporter = QueueReporter(runtime.store, job_id)
    return JobPipeline(
        job_id,
        runtime.storage,
        resources,
        reporter,
        join=lambda plan_id: add_reference(runtime.storage, runtime.store.locks, plan_id, job_id),
    )


_kept: Resources | None = None


def _resources(runtime: Runtime) -> Resources:
    """Return this process's resources; a runtime with another storage gets its own."""
    global _kept
    if _kept is None or _kept.storage is not runtime.storage:
        if _kept is not None:
            _kept.close()
        _kept = Resources(runtime.storage, runtime.settings.loader_processes)
    return _kept
