"""The check task: plan a job without doing it, look at its first shard and its checkpoints, and say what it would take.

No job stands behind it. Its outcome is the task's return value, and so is what is wrong: exceptions do not travel.
"""

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import open_clip
import torch
from PIL import Image

from coreset.errors import CoresetError, PoolUnusable, ShardUnreadable
from coreset.redaction import redact_model
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan, PlannedShard
from coreset.schemas.preflight import EvaluationFound, FirstShard, Outputs, Preflight, SampleFound, ShardsFound
from coreset.schemas.problems import to_problem
from coreset.schemas.trials import ProxyPlan
from coreset.selection.select import selection_folder, selection_id
from coreset.spec.job import JobSpec, SelectSpec
from coreset.storage.storage import Storage
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.data.decode import ViewFunctions, decode
from coreset_workers.data.tar import RawSample, ShardReader
from coreset_workers.estimates.memory import MemoryPlan
from coreset_workers.estimates.time import time_estimate
from coreset_workers.evaluation.plan import plan_proxies
from coreset_workers.influence.prepared_files import load_preparation
from coreset_workers.model.clip import ClipModel, view_functions
from coreset_workers.model.device import compute_device
from coreset_workers.model.inputs import RUN, load_clip_weights
from coreset_workers.process.lease import stamp
from coreset_workers.process.runtime import current
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.score import part_path, summary_path

SHOWN = 5
LOOKED_AT = 32
"""Samples of the first shard; if none of them can be scored, the pool is taken for another than the spec says."""


def check(spec: dict[str, Any]) -> dict[str, Any]:
    """Return {"preflight": ...} or {"problem": ...}. The queue calls it with a job spec as JSON."""
    run = current()
    try:
        found = preflight(JobSpec.model_validate(spec), run.storage)
    except CoresetError as error:
        return {"problem": to_problem(error)}
    return {"preflight": redact_model(found).model_dump(mode="json")}


def preflight(spec: JobSpec, storage: Storage) -> Preflight:
    """Plan the job and look at what it needs.

    Raises:
        InvalidInput: names the shard, the key or the checkpoint that cannot be used.
    """
    plan, warnings = make_plan(spec)
    stamp()
    world = plan_proxies(spec.evaluate, plan) if spec.evaluate else None
    stamp()
    model = ClipModel.build(plan.model, compute_device(), counted=plan.parameters)
    first, skipped = _first_readable(plan, {RUN: view_functions(plan.model, model.cfg)}, spec.max_failed_shards)
    warnings += skipped
    _fit(plan, model)
    memory = MemoryPlan(plan, model).estimate()
    stamp()
    if memory.device_bytes > memory.free_bytes:
        needed, free = (f"{value / 1e9:,.1f} GB" for value in (memory.device_bytes, memory.free_bytes))
        warnings.append(f"memory: about {needed} are needed on {memory.device}, {free} are free")
    return Preflight(
        plan_id=plan.id,
        shards=_shards(plan.shards),
        target_shards=_shards(plan.target_shards) if plan.target_shards else None,
        first_shard=first,
        n_samples=plan.n_samples,
        checkpoints=plan.checkpoints,
        model=plan.model,
        clip_model=plan.clip_model,
        parameters=plan.parameters,
        parameters_counted=model.layout.size,
        parameters_total=sum(shape.numel() for shape in model.shapes.values()),
        scores=plan.scores,
        warnings=warnings,
        memory=memory,
        time=time_estimate(plan, model, memory.batch_size),
        evaluation=_evaluation(spec, world),
        outputs=_outputs(plan, spec.select, storage),
    )


def _evaluation(spec: JobSpec, world: ProxyPlan | None) -> EvaluationFound | None:
    if spec.evaluate is None or world is None:
        return None
    proxies = spec.evaluate.number_of_trials(spec.select.rule, spec.scores)
    return EvaluationFound(test_shards=_shards(world.test), model=world.model, proxies=proxies)


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
    """Return the first shard that can be read, and what is wrong with those before it, as many as the job may lose.

    Raises:
        ShardUnreadable: more of them are no tars.
        PoolUnusable: the shard is empty, or none of the samples looked at can be scored.
    """
    skipped: list[str] = []
    for shard in plan.shards:
        try:
            return _first_samples(shard.uri, plan.caption_field, views), skipped
        except ShardUnreadable as error:
            skipped.append(error.detail)
            if len(skipped) > may_fail:
                raise
    raise PoolUnusable("none of the shards can be read")


def _first_samples(uri: str, caption_field: str | None, views: dict[str, ViewFunctions]) -> FirstShard:
    found = list(islice(_samples(uri, caption_field, views), LOOKED_AT))
    if not found:
        raise PoolUnusable(f"{uri}: the first shard holds no sample", uri=uri)
    if all(sample.status != SampleStatus.OK for sample in found):
        one = found[0]
        raise PoolUnusable(
            f"{uri}: none of its first {len(found)} samples can be scored. {one.key} is {one.status}, its members are "
            f"{', '.join(sorted(one.members))}. Shards need KEY.jpg (or png, jpeg, webp) and KEY.txt, or a "
            "`caption_field` in KEY.json.",
            uri=uri,
            key=one.key,
        )
    return FirstShard(uri=uri, samples=found[:SHOWN])


def _samples(uri: str, caption_field: str | None, views: dict[str, ViewFunctions]) -> Iterator[SampleFound]:
    for raw in ShardReader(uri):
        sample = decode(raw, caption_field, views)
        yield SampleFound(
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
    except Exception:  # Pillow's readers promise no kind
        return None


def _fit(plan: Plan, model: ClipModel) -> None:
    """Raise CheckpointUnusable if a checkpoint does not fit the architecture. What is downloaded waits for the job."""
    for checkpoint in plan.checkpoints:
        model.require_fit(checkpoint_files.inspect(checkpoint.uri).state_dict, checkpoint.uri)
        stamp()
    clip = plan.clip_model
    if clip is not None and not open_clip.get_pretrained_cfg(clip.name, plan.clip_pretrained or ""):
        load_clip_weights(plan, ClipModel.build(clip, torch.device("cpu")))


def _outputs(plan: Plan, select: SelectSpec, storage: Storage) -> Outputs:
    folder = f"plans/{plan.id}"
    names = set(storage.names(f"{folder}/parts"))
    done = sum(summary_path(plan, shard.index).rsplit("/", 1)[-1] in names for shard in plan.shards)
    return Outputs(
        plan=storage.uri(folder),
        parts=storage.uri(part_path(plan, 0)).rsplit("/", 1)[0],
        result=storage.uri("jobs/ID/manifest.json"),
        report=storage.uri("jobs/ID/report.html"),
        selection=storage.uri(selection_folder("ID", selection_id(plan, select))),
        prepared=load_preparation(storage, plan) is not None,
        parts_existing=done,
    )
