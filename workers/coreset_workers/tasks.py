"""The tasks that the queue knows by name. Messages carry ids only; the plan and the parts are in the storage.

Every task may run twice: it looks for its outcome in the storage first, and what it writes is written whole.
"""

import errno
import json
import time
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any

import structlog
from redis import Redis
from rq.exceptions import AbandonedJobError
from rq.job import Job as Task
from structlog.contextvars import bound_contextvars

from coreset.errors import CoresetError, ShardUnreadable, Unavailable
from coreset.queue.merge_tree import fan_in
from coreset.queue.progress import FINISH_SHARE
from coreset.schemas.job import JobStatus, Reason
from coreset.schemas.plan import Plan
from coreset.schemas.trials import Setup, load_trials, load_world, note_failure, save_trials, save_world
from coreset.storage.plan_references import join
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.evaluation.conclude import conclude_job
from coreset_workers.evaluation.plan import make_trials, plan_proxies
from coreset_workers.evaluation.trial import Advance, ProxyData, answer_trial, load_data
from coreset_workers.model.device import compute_device, device_name
from coreset_workers.model.inputs import views
from coreset_workers.process.lease import stamp
from coreset_workers.process.runtime import Runtime, current
from coreset_workers.process.task_watch import attempt_of, ids_of, name_of
from coreset_workers.stages.finish import finish_job, pool_warnings
from coreset_workers.stages.merge import Counts, merge_counts
from coreset_workers.stages.plan import make_plan, save_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import Scorer, find_summary, score_shard

log = structlog.get_logger("coreset_workers.tasks")

BEAT_SECONDS = 0.5
"""How often a running task tells its progress and looks whether its job was cancelled."""


class Cancelled(Exception):
    """The job was cancelled: the task stops where it is, and what was written stays."""


def prepare(job_id: str) -> None:
    """Plan the job, prepare the plan, and put the score tasks on the queue."""
    run = current()
    _proxy_data.clear()
    try:
        _prepare(run, job_id)
    except Cancelled:
        return
    except Unavailable:
        raise  # tried again, as every task that raises is
    except CoresetError as error:
        run.store.transition(job_id, JobStatus.FAILED, Reason(code=error.type, message=error.detail))


def _prepare(run: Runtime, job_id: str) -> None:
    if run.store.cancel_requested(job_id):
        return
    spec = run.store.transition(job_id, JobStatus.PREPARING).spec
    run.store.set_stage(job_id, "looking at shards and checkpoints", 0.0)
    plan, warnings = make_plan(spec)
    for warning in warnings:
        run.store.warn(job_id, warning)
    world = plan_proxies(spec.evaluate, plan) if spec.evaluate else None
    save_plan(run.storage, plan, job_id, spec, lambda: join(run.storage, run.store, plan.id, job_id))
    if world is not None:
        save_world(run.storage, job_id, world)
    prepare_plan(plan, run.storage, _loader(plan.id), compute_device(), _progress(run, job_id))
    run.store.set_plan(job_id, plan.id, len(plan.shards))
    _check_cancelled(run, job_id)
    run.queue.enqueue_scoring(job_id, plan.tasks())
    run.store.transition(job_id, JobStatus.SCORING)


def _progress(run: Runtime, job_id: str) -> Callable[[str, float], None]:
    def progress(stage: str, fraction: float) -> None:
        stamp()
        _check_cancelled(run, job_id)
        run.store.set_stage(job_id, stage, fraction)

    return progress


def score(job_id: str, task: int) -> None:
    """Score the shards of one task; shards whose part is there already are only counted."""
    run = current()
    if run.store.cancel_requested(job_id):
        return
    _proxy_data.clear()
    plan, thumbnails = _plan_of(run, job_id), _noted(run, job_id).get("thumbnails", False)
    try:
        for shard in plan.tasks()[task]:
            with bound_contextvars(shard=shard):
                _score_shard(run, job_id, plan, shard, thumbnails)
    except Cancelled:
        log.info("cancelled")


def _score_shard(run: Runtime, job_id: str, plan: Plan, shard: int, thumbnails: bool) -> None:
    done = find_summary(run.storage, plan, shard)
    if done is not None:
        run.store.shard_done(job_id, done, resumed=True)
        return
    run.store.shard_started(job_id, shard, device_name(compute_device()))
    planned = plan.shards[shard]
    try:
        beat = _beat(run, job_id, lambda fraction: run.store.shard_advanced(job_id, shard, fraction))
        summary = score_shard(_scorer(plan.id), _loader(plan.id), planned, beat, thumbnails)
    except ShardUnreadable as error:
        log.warning("shard failed", uri=planned.uri, detail=error.detail)
        run.store.shard_failed(job_id, shard, planned.uri, error.detail)
        return
    run.store.shard_done(job_id, summary)
    log.info("shard scored", read=summary.read, scored=summary.scored, seconds=round(summary.seconds, 3))


def _beat(run: Runtime, job_id: str, tell: Callable[[float], object]) -> Callable[[float], None]:
    told = time.monotonic()

    def beat(fraction: float) -> None:
        nonlocal told
        stamp()
        if time.monotonic() - told < BEAT_SECONDS:
            return
        told = time.monotonic()
        _check_cancelled(run, job_id)
        tell(fraction)

    return beat


def merge(job_id: str, level: int, index: int) -> None:
    """Put the counts of up to 64 tasks, or of 64 merges, together."""
    run = current()
    if run.store.cancel_requested(job_id):
        return
    plan = _plan_of(run, job_id)
    children = fan_in(len(plan.tasks()))[level][index]
    if level == 0:
        shards = [shard for task in children for shard in plan.tasks()[task]]
        counts = merge_counts([Counts.of(plan.shards[s], find_summary(run.storage, plan, s)) for s in shards])
    else:
        counts = merge_counts([_read_counts(run.storage, job_id, level - 1, child) for child in children])
    run.storage.write(_counts_path(job_id, level, index), counts.model_dump_json().encode())


def _read_counts(storage: Storage, job_id: str, level: int, index: int) -> Counts:
    return Counts.model_validate_json(storage.read(_counts_path(job_id, level, index)))


def _counts_path(job_id: str, level: int, index: int) -> str:
    return f"jobs/{job_id}/merges/{level}-{index:05d}.json"


def finish(job_id: str) -> None:
    """Select, report, and write the manifest, then begin the evaluation if one is wanted; or say why the job failed."""
    run = current()
    if run.store.cancel_requested(job_id):
        return
    job = run.store.transition(job_id, JobStatus.REDUCING)
    plan = _plan_of(run, job_id)
    tree = fan_in(len(plan.tasks()))
    top = len(tree) - 1
    try:
        counts = merge_counts([_read_counts(run.storage, job_id, top, i) for i in range(len(tree[top]))])
        progress, share = _progress(run, job_id), FINISH_SHARE if job.spec.evaluate else 1.0
        manifest = finish_job(run.storage, plan, job, counts, lambda stage, f: progress(stage, share * f))
        run.store.set_duplicates(job_id, manifest.duplicates)
        for warning in pool_warnings(counts, manifest.duplicates):
            run.store.warn(job_id, warning)
        if job.spec.evaluate is not None:
            world = load_world(run.storage, job_id)
            trials = make_trials(run.storage, plan, job.spec.evaluate, world, manifest.selection)
            save_trials(run.storage, job_id, trials)
            run.queue.enqueue_trials(job_id, len(trials.all))
    except Cancelled:
        return
    except Unavailable:
        raise  # tried again, as every task that raises is
    except CoresetError as error:
        run.store.transition(job_id, JobStatus.FAILED, Reason(code=error.type, message=error.detail))
    else:
        if job.spec.evaluate is None:
            run.store.transition(job_id, JobStatus.SUCCEEDED)


def trial(job_id: str, index: int) -> None:
    """Train and test one proxy of the job's evaluation, unless this question was answered before."""
    run = current()
    if run.store.cancel_requested(job_id):
        return
    trials = load_trials(run.storage, job_id)
    plan, every = _plan(trials.setup.plan_id), trials.all
    tell = lambda fraction: run.store.trial_advanced(job_id, index, fraction, len(every))  # noqa: E731
    beat = _beat(run, job_id, tell)
    data = lambda: _proxy_data(trials.setup.data_key, trials.setup, beat)  # noqa: E731
    try:
        answer_trial(run.storage, plan, trials.setup, every[index], data, compute_device(), beat)
    except Cancelled:
        return
    except Unavailable:
        raise  # tried again, as every task that raises is
    except CoresetError as error:
        log.warning("proxy not trained", trial=index, detail=error.detail)
        note_failure(run.storage, job_id, index, error.detail)
    tell(1.0)


def conclude(job_id: str) -> None:
    """Put together what the proxies measured, and end the job."""
    run = current()
    _proxy_data.clear()
    if run.store.cancel_requested(job_id):
        return
    _, evaluation = conclude_job(run.storage, job_id)
    for warning in evaluation.warnings:
        run.store.warn(job_id, warning)
    run.store.transition(job_id, JobStatus.SUCCEEDED)


def task_failed(
    task: Task, connection: Redis, kind: type[BaseException], error: BaseException, traceback: TracebackType
) -> None:
    """Record a task that failed for good. The queue calls it at every attempt, also for a dead worker's task."""
    run = current()
    with bound_contextvars(**ids_of(task)):
        if issubclass(kind, AbandonedJobError):
            log.warning("lease expired: the worker of the task died or was cut off")
            run.totals.add({"leases_expired": 1})
        if not task.should_retry:
            _failed_for_good(run, task, kind, error)


def _failed_for_good(run: Runtime, task: Task, kind: type[BaseException], error: BaseException) -> None:
    job_id, name = str(task.args[0]), name_of(task)
    run.totals.add({f"failures:{name}": 1})
    message = f"{name} failed {attempt_of(task)} times; the last time: {_in_words(kind, error)}"
    log.error("task failed", error=repr(error))
    if name == "score":
        plan = _plan_of(run, job_id)
        for shard in plan.tasks()[int(task.args[1])]:
            if find_summary(run.storage, plan, shard) is None:
                run.store.shard_failed(job_id, shard, plan.shards[shard].uri, message)
    elif name == "trial":
        index = int(task.args[1])
        note_failure(run.storage, job_id, index, message)
        run.store.trial_advanced(job_id, index, 1.0, run.store.trials(job_id))
    else:
        run.store.transition(job_id, JobStatus.FAILED, Reason(code="task-failed", message=message))


def _in_words(kind: type[BaseException], error: BaseException) -> str:
    """Say what happened without the exception's own text, which may hold what callers should not see."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left for what it writes; make room and post the same spec again"
    return error.detail if isinstance(error, CoresetError) else f"{kind.__name__}; the worker's log has the details"


def _check_cancelled(run: Runtime, job_id: str) -> None:
    if run.store.cancel_requested(job_id):
        raise Cancelled(job_id)


def _plan_of(run: Runtime, job_id: str) -> Plan:
    return _plan(_noted(run, job_id)["plan_id"])


def _noted(run: Runtime, job_id: str) -> dict[str, Any]:
    """Return what `prepare` left for the job's other tasks."""
    return json.loads(run.storage.read(f"jobs/{job_id}/plan.json"))


@cache
def _plan(plan_id: str) -> Plan:
    return Plan.from_json(current().storage.read(f"plans/{plan_id}/plan.json"))


class _Latest:
    """Holds one plan's loader or scorer, or one evaluation's data, at a time: they are large."""

    def __init__(self, make: Callable[..., Any], drop: Callable[[Any], object] = lambda _: None) -> None:
        self._make, self._drop = make, drop
        self._key: str | None = None
        self._value: Any = None

    def __call__(self, key: str, *needed: Any) -> Any:
        """Return what is held under the key, made of it and of what else is needed."""
        if key != self._key:
            self.clear()
            self._value, self._key = self._make(key, *needed), key
        return self._value

    def clear(self) -> None:
        if self._key is not None:
            self._drop(self._value)
        self._key = self._value = None


def _make_loader(plan_id: str) -> Loader:
    plan = _plan(plan_id)
    return Loader(views(plan), plan.caption_field, current().settings.loader_processes, plan.metadata)


_loader: Callable[[str], Loader] = _Latest(_make_loader, Loader.close)
_scorer: Callable[[str], Scorer] = _Latest(lambda plan_id: Scorer(_plan(plan_id), current().storage, compute_device()))


def _load_data(_: str, setup: Setup, advance: Advance) -> ProxyData:
    return load_data(setup, _plan(setup.plan_id), current().settings.loader_processes, advance)


_proxy_data = _Latest(_load_data)
