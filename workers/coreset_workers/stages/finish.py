"""The end of a job: the selection, the comparison with CLIP score, the report, and the manifest that names it all."""

import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from coreset import __version__
from coreset.browsing.score_table import ScoreTable
from coreset.browsing.summary import summarize
from coreset.errors import PoolUnusable
from coreset.redaction import redact_model
from coreset.schemas.job import Job
from coreset.schemas.manifest import Environment, Manifest, Repairs, Selection
from coreset.schemas.plan import Plan
from coreset.schemas.training import TrainedRun
from coreset.selection.agreement import compare_with_clip_score
from coreset.selection.select import count_samples, save_selection, select
from coreset.storage.layout import JobFolder, PlanFolder
from coreset.storage.plan_files import complete_parts
from coreset.storage.runs import find_run, load_training_plan
from coreset.storage.storage import Storage
from coreset.storage.verified import Damage, damaged, write_json
from coreset_workers.data.oddities import duplicates_warning
from coreset_workers.data.oddities import warnings as oddity_warnings
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.outputs.report import write_report
from coreset_workers.outputs.shards import write_shards
from coreset_workers.stages.merge import Counts

NAMED_AT_MOST = 10


def finish_job(
    storage: Storage,
    plan: Plan,
    job: Job,
    counts: Counts,
    progress: Callable[[str, float], None],
    repaired: Mapping[str, str] | None = None,
) -> Manifest:
    """Write the selection, the report and the manifest.

    Args:
        repaired: why each damaged file was made again, by its path.

    Raises:
        PoolUnusable: more shards failed than the spec allows.
        DamagedFile: a file of the plan is damaged.
    """
    _require_shards(job, counts)
    started = time.monotonic()
    _require_parts(storage, plan, counts)
    selection = _select(storage, plan, job, progress)
    progress("comparing the rankings", 0.6)
    comparisons = compare_with_clip_score(storage, plan, selection.k - selection.repeated)
    preparation = prepared.require_preparation(storage, plan)
    duplicates = counts.scored - count_samples(storage, plan, pairs=True)
    found = Manifest(
        job_id=job.id,
        plan_id=plan.id,
        spec=job.spec,
        environment=_environment(counts, preparation.precision),
        checkpoints=plan.checkpoints,
        horizon=preparation.horizon,
        training=_training(storage, job),
        model=plan.model,
        parameters=plan.parameters,
        parameters_counted=preparation.parameters_counted,
        parameters_total=preparation.parameters_total,
        n_samples=plan.n_samples,
        reference_uids=preparation.reference_uids,
        accuracy=preparation.accuracy,
        steps=preparation.steps,
        read=counts.read,
        scored=counts.scored,
        duplicates=duplicates,
        bad=counts.bad,
        oddities=counts.oddities,
        expected=counts.expected if counts.announced == counts.shards else None,
        failed_shards=counts.missing,
        damaged_shards=counts.damaged,
        repaired=Repairs.of(repaired or {}),
        warnings=_warnings(job, repaired or {}, [*preparation.warnings, *pool_warnings(counts, duplicates)], counts),
        comparisons=comparisons,
        parts=list(counts.parts.values()),
        kept={kind: list(counts.kept.get(kind, {}).values()) for kind in job.spec.keep},
        selection=selection,
        report=None,
        seconds={**preparation.seconds, "score": counts.seconds, "finish": time.monotonic() - started},
        created_at=datetime.now(UTC),
    )
    progress("writing the report", 0.8)
    with ScoreTable(storage, plan, selection) as table:
        summary = summarize(table, preparation.horizon)
    write_json(storage, JobFolder(job.id).summary, summary.model_dump_json())
    manifest = redact_model(found)
    manifest = manifest.model_copy(update={"report": write_report(storage, manifest, summary)})
    write_json(storage, JobFolder(job.id).manifest, manifest.model_dump_json(indent=2))
    return manifest


def _require_shards(job: Job, counts: Counts) -> None:
    """Raise PoolUnusable if more shards failed than the spec allows."""
    if len(counts.missing) > job.spec.max_failed_shards:
        named = ", ".join(counts.missing[:NAMED_AT_MOST])
        raise PoolUnusable(
            f"{len(counts.missing)} of {counts.shards} shards failed, {job.spec.max_failed_shards} may "
            f"(max_failed_shards): {named}. The scores of the others are kept: repair or leave out these shards and "
            "post the job again.",
            shards=counts.missing[:NAMED_AT_MOST],
        )


def _select(storage: Storage, plan: Plan, job: Job, progress: Callable[[str, float], None]) -> Selection:
    """Return the job's first selection, with its shards if the spec asks for them."""
    progress("selecting", 0.0)
    selection = select(storage, plan, job.id, job.spec.select, suspects=job.spec.clean is not None)
    if not job.spec.select.write_shards:
        return selection
    progress("writing shards", 0.2)
    files = write_shards(storage, plan, selection, lambda f: progress("writing shards", 0.2 + 0.4 * f))
    selection = selection.model_copy(update={"files": selection.files | files})
    save_selection(storage, selection)
    return selection


def _training(storage: Storage, job: Job) -> TrainedRun | None:
    """Return the run that the job trained; None if it trained none, or if the run's files were removed since."""
    return find_run(storage, load_training_plan(storage, job.id).id) if job.spec.train else None


def _require_parts(storage: Storage, plan: Plan, counts: Counts) -> None:
    """Verify the counted parts. Raises DamagedFile if one is damaged or gone: its samples would be missing silently."""
    gone = set(counts.parts) - set(complete_parts(storage, plan.id, counts.parts))
    if gone:
        raise damaged(PlanFolder(plan.id).summary(min(gone)), "it is gone")


def _warnings(job: Job, repaired: Mapping[str, str], others: list[str], counts: Counts) -> list[str]:
    files = [Damage(name, why).warning for name, why in list(repaired.items())[:NAMED_AT_MOST]]
    known = [*job.warnings, *(text for text in files if text not in job.warnings)]
    return [*known, *others, *_shortfalls(counts)]


def pool_warnings(counts: Counts, duplicates: int) -> list[str]:
    """Return sentences about the samples that a selection cannot take and the members that were left aside."""
    copies = duplicates_warning(duplicates, counts.scored)
    return ([copies] if copies else []) + oddity_warnings(counts.oddities)


def _environment(counts: Counts, precision: str) -> Environment:
    return Environment(
        coreset=__version__,
        python=platform.python_version(),
        torch=importlib.metadata.version("torch"),
        open_clip=importlib.metadata.version("open_clip_torch"),
        device=", ".join(counts.devices),
        precision=precision,
    )


def _shortfalls(counts: Counts) -> list[str]:
    """Return a warning for each shard that brought fewer samples than the files beside it announce, ten at most."""
    said = [f"{uri}: {missing} announced samples did not come" for uri, missing in counts.short.items()]
    more = len(said) - NAMED_AT_MOST
    return said[:NAMED_AT_MOST] + ([f"and {more} more shards"] if more > 0 else [])
