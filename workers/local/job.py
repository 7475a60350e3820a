"""The tasks of a job one after another in this process: the same files and bytes as a served job's, without Redis."""

from contextlib import closing

from coreset.errors import ShardUnreadable
from coreset.job import JobStatus
from coreset.plan_users import note
from coreset.result import Manifest, ShardSummary
from coreset.spec import JobSpec
from coreset.storage import Storage
from coreset.store import fingerprint
from workers.device import compute_device, device_name
from workers.finish import finish_job
from workers.local.watch import Tell, Watch
from workers.merge import Counts, merge_counts
from workers.pairs import views
from workers.planning import make_plan, save_plan
from workers.prepare import prepare_plan
from workers.samples.loader import Loader
from workers.score import Scorer, find_summary, score_shard


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
    save_plan(storage, plan, watch.job.id, spec, lambda: note(storage, plan.id, watch.job.id))
    with closing(Loader(views(plan), plan.caption_field, loader_processes, plan.metadata)) as loader:
        prepare_plan(plan, storage, loader, device, watch.stage)
        watch.enter(JobStatus.SCORING)
        scorer = Scorer(plan, storage, device)
        counts = [Counts.of(plan.shards[i], _scored(scorer, loader, watch, i)) for i in range(len(plan.shards))]
    watch.enter(JobStatus.REDUCING)
    manifest = finish_job(storage, plan, watch.job, merge_counts(counts), watch.stage)
    watch.enter(JobStatus.SUCCEEDED)
    return manifest


def local_id(spec: JobSpec) -> str:
    """Return the job's id, made of its spec: the same job goes on where it was."""
    return f"local{fingerprint(spec)[:20]}"


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
