"""The tasks of a job one after another in this process: the same files and bytes as a served job's, without Redis."""

from contextlib import closing
from functools import cache

from coreset.errors import CoresetError, ShardUnreadable
from coreset.queue.job_store import fingerprint
from coreset.queue.progress import FINISH_SHARE
from coreset.schemas.job import JobStatus
from coreset.schemas.manifest import Manifest, ShardSummary
from coreset.schemas.plan import Plan
from coreset.schemas.trials import ProxyPlan, note_failure, save_trials
from coreset.spec.job import JobSpec
from coreset.storage.plan_references import note
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.evaluation.conclude import conclude_job
from coreset_workers.evaluation.plan import make_trials, plan_proxies
from coreset_workers.evaluation.trial import answer_trial, load_data
from coreset_workers.local.watch import Tell, Watch
from coreset_workers.model.device import compute_device, device_name
from coreset_workers.model.inputs import views
from coreset_workers.stages.finish import finish_job, pool_warnings
from coreset_workers.stages.merge import Counts, merge_counts
from coreset_workers.stages.plan import make_plan, save_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import Scorer, find_summary, score_shard


def run_job(spec: JobSpec, storage: Storage, tell: Tell, loader_processes: int) -> Manifest:
    """Prepare, score, merge and finish. What the storage holds already is not made again.

    Args:
        tell: called with the job after each change.

    Raises:
        InvalidInput: what makes a served job fail.
    """
    device = compute_device()
    watch = Watch(local_id(spec), spec, tell, device_name(device))
    watch.enter(JobStatus.PREPARING)
    plan, warnings = make_plan(spec)
    watch.planned(plan.id, len(plan.shards), warnings)
    world = plan_proxies(spec.evaluate, plan) if spec.evaluate else None
    save_plan(storage, plan, watch.job.id, spec, lambda: note(storage, plan.id, watch.job.id))
    with closing(Loader(views(plan), plan.caption_field, loader_processes, plan.metadata)) as loader:
        prepare_plan(plan, storage, loader, device, watch.stage)
        watch.enter(JobStatus.SCORING)
        scorer = Scorer(plan, storage, device)
        each = [Counts.of(plan.shards[i], _scored(scorer, loader, watch, i)) for i in range(len(plan.shards))]
    counts = merge_counts(each)
    watch.enter(JobStatus.REDUCING)
    share = FINISH_SHARE if spec.evaluate else 1.0
    stage = lambda words, fraction: watch.stage(words, share * fraction)  # noqa: E731
    manifest = finish_job(storage, plan, watch.job, counts, stage)
    watch.finished(manifest.duplicates, pool_warnings(counts, manifest.duplicates))
    if world is not None:
        manifest = _evaluated(storage, plan, world, manifest, watch, loader_processes)
    watch.enter(JobStatus.SUCCEEDED)
    return manifest


def local_id(spec: JobSpec) -> str:
    """Return the job's id, made of its spec: the same job goes on where it was."""
    return f"local{fingerprint(spec)[:20]}"


def _evaluated(
    storage: Storage, plan: Plan, world: ProxyPlan, manifest: Manifest, watch: Watch, loader_processes: int
) -> Manifest:
    """Train and test every proxy, conclude, and return the manifest, which names the evaluation."""
    spec, job_id = watch.job.spec.evaluate, watch.job.id
    assert spec is not None
    trials = make_trials(storage, plan, spec, world, manifest.selection)
    save_trials(storage, job_id, trials)
    data = cache(lambda: load_data(trials.setup, plan, loader_processes, lambda _: None))
    every = trials.all
    for index, trial in enumerate(every):
        stage = f"training proxies, {index} of {len(every)}"

        def advance(fraction: float, stage: str = stage, index: int = index) -> None:
            watch.stage(stage, FINISH_SHARE + (1 - FINISH_SHARE) * (index + fraction) / len(every))

        advance(0.0)
        try:
            answer_trial(storage, plan, trials.setup, trial, data, compute_device(), advance)
        except CoresetError as error:
            note_failure(storage, job_id, index, error.detail)
    return conclude_job(storage, job_id)[0]


def _scored(scorer: Scorer, loader: Loader, watch: Watch, shard: int) -> ShardSummary | None:
    """Return the summary of a shard, None if it cannot be read."""
    done = find_summary(scorer.storage, scorer.plan, shard)
    planned = scorer.plan.shards[shard]
    try:
        thumbnails = watch.job.spec.thumbnails
        summary = done or score_shard(scorer, loader, planned, watch.shard_advanced, thumbnails)
    except ShardUnreadable as error:
        watch.shard_failed(shard, planned.uri, error.detail)
        return None
    watch.shard_done(summary, resumed=done is not None)
    return summary
