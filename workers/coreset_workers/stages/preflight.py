"""Preflight of a job: its plan, its first shard, whether its checkpoints fit, and its memory and time."""

import io
from collections.abc import Callable
from itertools import islice

import open_clip
import torch
from PIL import Image

from coreset.errors import InvalidSpec, PoolUnusable, ShardUnreadable
from coreset.schemas.horizon import Horizon
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan, PlannedShard
from coreset.schemas.preflight import (
    EvaluationFound,
    FirstShard,
    Outputs,
    Preflight,
    SampleFound,
    ShardsFound,
    TimeEstimate,
)
from coreset.schemas.training import TrainingFound
from coreset.schemas.trials import ProxyPlan
from coreset.selection.requirements import resolve_spec
from coreset.selection.select import selection_id
from coreset.spec.job import JobSpec
from coreset.spec.pool import CaptionField
from coreset.spec.scores import ESTIMATORS
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import JobFolder, PlanFolder, summary_name
from coreset.storage.runs import find_run
from coreset.storage.storage import Storage
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.checkpoints.run import PlannedRun
from coreset_workers.data.decode import Sample, ViewFunctions, decode, note_unusable_uids
from coreset_workers.data.listing import ROWS
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tar import RawSample
from coreset_workers.estimates.cheaper import cheaper_changes
from coreset_workers.estimates.memory import MemoryPlan
from coreset_workers.estimates.time import measure_speed, time_estimate
from coreset_workers.estimates.training import foreseen_run, price_training
from coreset_workers.evaluation.plan import plan_proxies
from coreset_workers.influence.horizon import describe_unmeasured
from coreset_workers.influence.prepared_files import load_preparation
from coreset_workers.model.clip import ClipModel, view_functions
from coreset_workers.model.device import compute_device
from coreset_workers.model.inputs import RUN, load_clip_weights
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.train_run import new_training_plan, with_trained_run

SAMPLES_CHECKED = 32
"""Samples of the first shard that are decoded; if none of them can be scored, the pool is rejected."""

SAMPLES_REPORTED = 5
"""Samples of the first shard in the answer."""


COUNTED = ("files beside the shards", "tar headers", ROWS)
"""Sources of N that are counts, not estimates."""


UNTRAINED = "UNTRAINED"
"""Id of a plan whose run is still to be trained, in paths, too."""


def preflight(spec: JobSpec, storage: Storage, heartbeat: Callable[[], object], max_training_samples: int) -> Preflight:
    """Plan the job and check its inputs, without starting it.

    Args:
        heartbeat: called as the preflight proceeds, from any thread.
        max_training_samples: largest number of samples seen by a training that the operator allows.

    Raises:
        InvalidInput: a shard, a sample or a checkpoint cannot be used; names it.
    """
    training, spec, foreseen = _training(spec, storage, heartbeat, max_training_samples)
    plan, warnings = make_plan(spec, heartbeat, foreseen)
    _require_k(plan, spec.select)
    scored = plan
    proxies = plan_proxies(spec.evaluate, plan, heartbeat) if spec.evaluate else None
    heartbeat()
    model = ClipModel.build(plan.model, compute_device(), counted=plan.parameters)
    first, doubts = _first_readable(plan, {RUN: view_functions(plan.model, model.cfg)}, spec.max_failed_shards)
    warnings += doubts
    if foreseen is None:
        _require_fit(plan, model, heartbeat)
    horizon = _horizon(plan, storage)
    if horizon is not None and horizon.step is not None:  # the plan as it will be scored, for the estimates
        scored = plan.model_copy(update={"horizon": int(horizon.step)})
    memory = MemoryPlan(scored, model).estimate()
    heartbeat()
    if memory.device_bytes > memory.free_bytes:
        needed, free = (f"{value / 1e9:,.1f} GB" for value in (memory.device_bytes, memory.free_bytes))
        warnings.append(f"memory: the job needs about {needed} on {memory.device}, of which {free} are free")
    plan_id = UNTRAINED if foreseen else plan.id
    outputs = _outputs(plan, plan_id, spec.select, storage)
    speed = measure_speed(scored, model, memory.batch_size)
    time = time_estimate(scored, speed)
    begun = outputs.prepared or outputs.parts_existing
    return Preflight(
        plan_id=plan_id,
        shards=_shards(plan.shards),
        target_shards=_shards(plan.target_shards) if plan.target_shards else None,
        first_shard=first,
        n_samples=plan.n_samples,
        checkpoints=plan.checkpoints,
        horizon=horizon,
        model=plan.model,
        clip_model=plan.clip_model,
        parameters=plan.parameters,
        parameters_counted=model.layout.size if plan.checkpoints else 0,
        parameters_total=sum(shape.numel() for shape in model.shapes.values()),
        scores=plan.scores,
        warnings=warnings,
        memory=memory,
        time=_remaining(time, outputs, len(plan.shards)),
        cheaper=[] if begun else cheaper_changes(scored, model, memory.batch_size, speed, time),
        evaluation=_evaluation(spec, proxies),
        training=training,
        outputs=outputs,
    )


def _training(
    spec: JobSpec, storage: Storage, heartbeat: Callable[[], object], most: int
) -> tuple[TrainingFound | None, JobSpec, PlannedRun | None]:
    """Return what training costs, the spec, with the run if it is trained already, and else the run as foreseen."""
    if spec.train is None:
        return None, spec, None
    device = compute_device()
    plan = new_training_plan(spec, device, most, heartbeat)
    run = find_run(storage, plan.id)
    found = price_training(plan, storage, run, device)
    heartbeat()
    if run is not None:
        return found, with_trained_run(spec, storage, plan.id), None
    return found, spec, foreseen_run(plan, storage)


def _horizon(plan: Plan, storage: Storage) -> Horizon | None:
    """Return the horizon, as it was prepared or as the plan says; None if no score traces influence."""
    if not plan.checkpoints or not set(ESTIMATORS) & set(plan.scores):
        return None
    preparation = load_preparation(storage, plan)
    return (preparation.horizon if preparation else None) or describe_unmeasured(plan)


def _evaluation(spec: JobSpec, proxies: ProxyPlan | None) -> EvaluationFound | None:
    if spec.evaluate is None or proxies is None:
        return None
    trials = spec.evaluate.number_of_trials(spec.select.rule, spec.scores)
    return EvaluationFound(test_shards=_shards(proxies.test), model=proxies.model, proxies=trials)


def _shards(shards: list[PlannedShard]) -> ShardsFound:
    announced: dict[str, int] = {}
    for shard in shards:
        source = shard.expected_source or "nothing"
        announced[source] = announced.get(source, 0) + 1
    samples = sum(shard.expected or 0 for shard in shards)
    return ShardsFound(
        number=len(shards), bytes=sum(shard.size for shard in shards), samples=samples, announced=announced
    )


def _first_readable(plan: Plan, views: dict[str, ViewFunctions], may_fail: int) -> tuple[FirstShard, list[str]]:
    """Return the first shard that can be read, with warnings of it and of unreadable shards before it.

    Raises:
        ShardUnreadable: more than `may_fail` shards are no tar files.
        PoolUnusable: the shard is empty, or none of the samples checked can be scored.
    """
    skipped: list[str] = []
    for shard in plan.shards:
        try:
            first, doubts = _first_samples(shard, plan.caption_field, views)
            return first, skipped + doubts
        except ShardUnreadable as error:
            skipped.append(error.detail)
            if len(skipped) > may_fail:
                raise
    raise PoolUnusable("none of the shards can be read")


def _first_samples(
    shard: PlannedShard, caption_field: CaptionField, views: dict[str, ViewFunctions]
) -> tuple[FirstShard, list[str]]:
    uri, reader = shard.label, open_shard(shard)
    pairs = [(raw, decode(raw, caption_field, views)) for raw in islice(reader, SAMPLES_CHECKED)]
    found = [_found(raw, sample) for raw, sample in pairs]
    note_unusable_uids(reader.oddities, uri, (sample for _, sample in pairs))
    doubts = reader.oddities.warnings()
    if not found:
        raise PoolUnusable(" ".join([f"{uri}: the first shard contains no sample.", *doubts]), uri=uri)
    if all(sample.status != SampleStatus.OK for sample in found):
        one = found[0]
        raise PoolUnusable(
            f"{uri}: none of its first {len(found)} samples can be scored. {one.key} is {one.status}, its members are "
            f"{', '.join(sorted(one.members))}. Shards need KEY.jpg (or png, jpeg, webp) and KEY.txt, or a "
            "`caption_field` in KEY.json.",
            uri=uri,
            key=one.key,
        )
    duplicates = len(found) - len({sample.uid for sample in found})
    if duplicates:
        doubts.append(f"{duplicates} of the first {len(found)} samples of {uri} are duplicates: they share a uid")
    return FirstShard(uri=uri, read=len(found), duplicates=duplicates, samples=found[:SAMPLES_REPORTED]), doubts


def _found(raw: RawSample, sample: Sample) -> SampleFound:
    return SampleFound(
        key=raw.key,
        uid=sample.uid,
        uid_source=sample.uid_source.value,
        status=sample.status.value,
        members={ext: len(raw.members[ext]) if ext in raw.members else None for ext in sorted(raw.seen)},
        caption=sample.caption,
        image_size=_image_size(raw),
    )


def _image_size(raw: RawSample) -> tuple[int, int] | None:
    try:
        return Image.open(io.BytesIO(raw.image() or b"")).size
    except Exception:  # Pillow's readers raise any kind of error
        return None


def _require_fit(plan: Plan, model: ClipModel, heartbeat: Callable[[], object]) -> None:
    """Raise CheckpointUnusable if a checkpoint does not fit the architecture. Weights to download are not checked."""
    for checkpoint in plan.checkpoints:
        model.require_fit(checkpoint_files.inspect(checkpoint.uri).state_dict, checkpoint.uri)
        heartbeat()
    clip = plan.clip_model
    if clip is not None and not open_clip.get_pretrained_cfg(clip.name, plan.clip_pretrained or ""):
        load_clip_weights(plan, ClipModel.build(clip, torch.device("cpu")))


def _require_k(plan: Plan, select: SelectSpec) -> None:
    """Raise InvalidSpec if the pool, as far as its samples are counted, is smaller than k."""
    samples, repeats = int(plan.n_samples.value), select.sampling.max_repeats if select.sampling else 1
    if plan.n_samples.source in COUNTED and select.k is not None and select.k > samples * repeats:
        raise InvalidSpec(
            f"k is {select.k:,}, but the pool has {samples:,} samples ({plan.n_samples.source}). Give a smaller k, or "
            "a `fraction`.",
            field="select.k",
            got=select.k,
            samples=samples,
        )


def _remaining(time: TimeEstimate, outputs: Outputs, shards: int) -> TimeEstimate:
    """Return the time that is left if the plan's preparation and parts that exist are used."""
    left = 1 - outputs.parts_existing / shards
    prepare = 0.0 if outputs.prepared else time.prepare_seconds
    return time.model_copy(update={"prepare_seconds": prepare, "score_seconds": round(time.score_seconds * left, 1)})


def _outputs(plan: Plan, plan_id: str, select: SelectSpec, storage: Storage) -> Outputs:
    folder, job = PlanFolder(plan_id), JobFolder("ID")
    selection = UNTRAINED if plan_id == UNTRAINED else selection_id(plan, resolve_spec(plan, select))
    names = set(storage.names(folder.parts))
    done = sum(summary_name(shard.index) in names for shard in plan.shards)
    return Outputs(
        plan=storage.uri(folder.root),
        parts=storage.uri(folder.parts),
        result=storage.uri(job.manifest),
        report=storage.uri(job.report),
        selection=storage.uri(job.selection(selection).root),
        prepared=load_preparation(storage, plan) is not None,
        parts_existing=done,
    )
