"""The stages of a job and their order. `tasks` runs them from the queue, `local` one after another in a process.

The order: prepare, score for each task of the plan, merge in a tree, finish; with an evaluation also trial for each
proxy, and conclude. A stage may run twice: it uses outcomes that are in the storage, and files are written whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from structlog.contextvars import bound_contextvars

from coreset.errors import CoresetError, DamagedFile, ShardUnreadable, Unavailable
from coreset.queue.merge_tree import merge_levels
from coreset.queue.progress import FINISH_SHARE
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Manifest, ShardSummary
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage
from coreset.storage.trials import load_proxy_plan, load_trials, save_failure, save_proxy_plan, save_trials
from coreset.storage.verified import Damage, take_damage
from coreset_workers.evaluation.plan import make_trials, plan_proxies
from coreset_workers.evaluation.trial import answer_trial
from coreset_workers.model.device import device_name
from coreset_workers.outputs.parts import find_part
from coreset_workers.repair import PlanRepair
from coreset_workers.resources import Resources
from coreset_workers.stages.conclude import conclude_job
from coreset_workers.stages.finish import finish_job, pool_warnings
from coreset_workers.stages.merge import Counts, merge_counts, read_counts, write_counts
from coreset_workers.stages.plan import load_job_plan, make_plan, save_plan
from coreset_workers.stages.prepare import prepare_plan

log = structlog.get_logger("coreset_workers.pipeline")


class JobReporter(Protocol):
    """Receives the state, the progress and the warnings of one job.

    If the job was cancelled, `check_cancelled`, `stage`, `shard_advanced` and `trial_advanced` raise, which ends the
    running stage.
    """

    def enter(self, status: JobStatus) -> Job:
        """Move the job to a state, and return the job."""
        ...

    def warn(self, warning: str) -> None: ...

    def heartbeat(self) -> None:
        """Record that the running stage makes progress. Cheap enough for every batch; any thread may call it."""
        ...

    def check_cancelled(self) -> None: ...

    def stage(self, stage: str, fraction: float) -> None:
        """Name the step of preparing or finishing that runs now, and the fraction of them that is done, 0 to 1."""
        ...

    def planned(self, plan: Plan) -> None:
        """Record the plan of the job."""
        ...

    def shard_started(self, shard: int, device: str) -> None: ...

    def shard_advanced(self, shard: int, fraction: float) -> None: ...

    def shard_done(self, summary: ShardSummary, resumed: bool) -> None:
        """Count a shard; `resumed` if its part was in the storage already."""
        ...

    def shard_failed(self, shard: int, uri: str, message: str) -> None: ...

    def duplicates(self, duplicates: int) -> None:
        """Record the number of samples that share their uid with an earlier one."""
        ...

    def trial_advanced(self, trial: int, fraction: float, trials: int) -> None:
        """Record the progress of one trial of `trials`; a fraction of 1 ends it, whether it has an outcome or not."""
        ...


@dataclass(frozen=True)
class JobPipeline:
    """The stages of one job.

    Attributes:
        join: registers the job, before it relies on a file of the plan, as a user of the plan with the given id.
    """

    job_id: str
    storage: Storage
    resources: Resources
    reporter: JobReporter
    join: Callable[[str], object]

    def run(self) -> Manifest:
        """Run all stages here, one after another, and return the manifest.

        Raises:
            CoresetError: the job fails.
        """
        tasks = len(self.prepare().tasks())
        self.report_damage()
        self.reporter.enter(JobStatus.SCORING)
        for task in range(tasks):
            self.score(task)
        self.report_damage()
        self.resources.close()
        for level, nodes in enumerate(merge_levels(tasks)):
            for index in range(len(nodes)):
                self.merge(level, index)
        manifest, trials = self.finish()
        for trial in range(trials):
            self.trial(trial)
        if trials:
            manifest = self.conclude()
        self.reporter.enter(JobStatus.SUCCEEDED)
        return manifest

    def prepare(self) -> Plan:
        """Plan the job, prepare the plan, and return it.

        Raises:
            CoresetError: the job cannot be run.
        """
        self.resources.drop_proxy_data()
        spec = self.reporter.enter(JobStatus.PREPARING).spec
        self.reporter.stage("reading shards and checkpoints", 0.0)
        plan, warnings = make_plan(spec, self.reporter.heartbeat)
        for warning in warnings:
            self.reporter.warn(warning)
        proxies = plan_proxies(spec.evaluate, plan, self.reporter.heartbeat) if spec.evaluate else None
        save_plan(self.storage, plan, self.job_id, spec, lambda: self.join(plan.id))
        if proxies is not None:
            save_proxy_plan(self.storage, self.job_id, proxies)
        prepare_plan(plan, self.storage, self.resources.loader(plan), self.resources.device, self.reporter.stage)
        self.reporter.planned(plan)
        self.reporter.check_cancelled()
        return plan

    def score(self, task: int) -> None:
        """Score the shards of one task; a shard that has a part already is only counted."""
        self.resources.drop_proxy_data()
        plan, thumbnails = self._plan()
        for shard in plan.tasks()[task]:
            with bound_contextvars(shard=shard):
                self._score_shard(plan, shard, thumbnails)

    def _score_shard(self, plan: Plan, shard: int, thumbnails: bool) -> None:
        summary = find_part(self.storage, plan, shard)
        if summary is not None:
            self.reporter.shard_done(summary, resumed=True)
            return
        self.reporter.shard_started(shard, device_name(self.resources.device))
        planned = plan.shards[shard]
        try:
            summary = self._repair(plan, thumbnails).score(shard)
        except ShardUnreadable as error:
            log.warning("shard failed", uri=planned.label, detail=error.detail)
            self.reporter.shard_failed(shard, planned.label, error.detail)
            return
        self.reporter.shard_done(summary, resumed=False)
        log.info("shard scored", read=summary.read, scored=summary.scored, seconds=round(summary.seconds, 3))

    def _repair(self, plan: Plan, thumbnails: bool) -> PlanRepair:
        return PlanRepair(plan, self.resources, thumbnails, self.reporter.shard_advanced)

    def fail_score(self, task: int, message: str) -> None:
        """Count the shards of a task that failed for good, except those that have a part."""
        plan, _ = self._plan()
        for shard in plan.tasks()[task]:
            if find_part(self.storage, plan, shard) is None:
                self.reporter.shard_failed(shard, plan.shards[shard].label, message)

    def merge(self, level: int, index: int) -> Counts:
        """Add up the counts of up to 64 tasks, or of 64 merges of the level below."""
        plan, thumbnails = self._plan()
        children = merge_levels(len(plan.tasks()))[level][index]
        if level == 0:
            repair = self._repair(plan, thumbnails)
            shards = [shard for task in children for shard in plan.tasks()[task]]
            counts = [Counts.of(plan.shards[shard], repair.summary(shard)) for shard in shards]
        else:
            counts = [self._merged(level - 1, child, {}) for child in children]
        merged = merge_counts(counts)
        write_counts(self.storage, self.job_id, level, index, merged)
        return merged

    def _merged(self, level: int, index: int, repaired: dict[str, str]) -> Counts:
        """Return the counts of a merge, made again if its file is damaged or gone; then `repaired` says why."""
        try:
            return read_counts(self.storage, self.job_id, level, index)
        except DamagedFile as error:
            repaired[str(error.data["name"])] = str(error.data["why"])
            return self.merge(level, index)

    def finish(self) -> tuple[Manifest, int]:
        """Select, report and write the manifest; return it, and the number of trials of the job's evaluation.

        A damaged file that this finds is made again, once, and named in the manifest.

        Raises:
            CoresetError: too many shards failed, or the selection cannot be made.
        """
        job = self.reporter.enter(JobStatus.REDUCING)
        plan, thumbnails = self._plan()
        repair = self._repair(plan, thumbnails)
        return repair.complete(lambda: self._finish(job, plan, repair), lambda: self._counts(plan, repair).parts)

    def _finish(self, job: Job, plan: Plan, repair: PlanRepair) -> tuple[Manifest, int]:
        counts, evaluate = self._counts(plan, repair), job.spec.evaluate
        share = FINISH_SHARE if evaluate else 1.0
        progress = lambda stage, fraction: self.reporter.stage(stage, share * fraction)  # noqa: E731
        manifest = finish_job(self.storage, plan, job, counts, progress, repair.repaired)
        self.reporter.duplicates(manifest.duplicates)
        for warning in pool_warnings(counts, manifest.duplicates):
            self.reporter.warn(warning)
        if evaluate is None:
            return manifest, 0
        proxies = load_proxy_plan(self.storage, self.job_id)
        trials = make_trials(self.storage, plan, evaluate, proxies, manifest.selection)
        save_trials(self.storage, self.job_id, trials)
        return manifest, len(trials.all)

    def _counts(self, plan: Plan, repair: PlanRepair) -> Counts:
        """Return the counts of all shards, from their summaries if some were scored again."""
        if repair.scored_again:
            found = [Counts.of(shard, repair.summary(shard.index)) for shard in plan.shards]
            return merge_counts(found)
        tree = merge_levels(len(plan.tasks()))
        top = len(tree) - 1
        return merge_counts([self._merged(top, index, repair.repaired) for index in range(len(tree[top]))])

    def trial(self, index: int) -> None:
        """Train and test one proxy, unless its outcome is in the storage. A proxy that cannot be trained is noted.

        Raises:
            Unavailable: the storage does not answer now.
        """
        trials = load_trials(self.storage, self.job_id)
        setup, every = trials.setup, trials.all
        plan = self.resources.plan(setup.plan_id)

        def advance(fraction: float) -> None:
            self.reporter.trial_advanced(index, fraction, len(every))

        advance(0.0)
        try:
            data = lambda: self.resources.proxy_data(setup, advance)  # noqa: E731
            answer_trial(self.storage, plan, setup, every[index], data, self.resources.device, advance)
        except Unavailable:
            raise
        except CoresetError as error:
            log.warning("proxy not trained", trial=index, detail=error.detail)
            save_failure(self.storage, self.job_id, index, error.detail)
        advance(1.0)

    def fail_trial(self, index: int, message: str, trials: int) -> None:
        """Note why one of `trials` trials failed for good; the job goes on without it."""
        save_failure(self.storage, self.job_id, index, message)
        self.reporter.trial_advanced(index, 1.0, trials)

    def conclude(self) -> Manifest:
        """Add what the proxies measured to the report and the manifest, and return the manifest."""
        self.resources.drop_proxy_data()
        manifest, evaluation = conclude_job(self.storage, self.job_id)
        for warning in evaluation.warnings:
            self.reporter.warn(warning)
        return manifest

    def report_damage(self) -> list[Damage]:
        """Warn of the damaged files that this process met, and return them."""
        found = take_damage()
        for damage in found:
            self.reporter.warn(damage.warning)
        return found

    def _plan(self) -> tuple[Plan, bool]:
        """Return the job's plan, and whether its shards get thumbnails."""
        plan_id, thumbnails = load_job_plan(self.storage, self.job_id)
        return self.resources.plan(plan_id), thumbnails
