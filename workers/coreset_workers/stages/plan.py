"""The plan stage: a job spec to a plan, with shards, checkpoints, architecture and N as they are now."""

import json
from collections.abc import Callable
from typing import Literal

import open_clip

from coreset.errors import InvalidSpec
from coreset.schemas.plan import PART_VERSION, Plan, PlannedCheckpoint, PlannedModel, PlannedShard, Sourced
from coreset.spec.job import JobSpec, ValidationTarget
from coreset.spec.model import ClipModelSpec
from coreset.spec.scores import ESTIMATORS, Score, cautions
from coreset.storage.layout import JobFolder, PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json, write_json
from coreset_workers.checkpoints.architecture import registered, tag_preprocess
from coreset_workers.checkpoints.run import PlannedRun, plan_checkpoints
from coreset_workers.data.listing import ROWS, count_samples, list_shards
from coreset_workers.model.limits import check_tag
from coreset_workers.model.parameters import counted_parameters, trained_parameters

DEFAULT_CLUSTERS = 32
SAMPLES_PER_CLUSTER = 8
"""Default average number of B's samples in a cluster."""


INFLUENCE = {*ESTIMATORS, Score.SELF_INFLUENCE}
"""Scores that depend on learning rates, the optimizer and the parameters that count."""


def make_plan(spec: JobSpec, heartbeat: Callable[[], object] = lambda: None) -> tuple[Plan, list[str]]:
    """Return the plan and warnings for the user.

    Args:
        heartbeat: called as planning proceeds, from any thread.

    Raises:
        InvalidInput: a shard or a checkpoint cannot be used; names it.
    """
    shards = list_shards(spec.pool, heartbeat)
    target = list_shards(spec.target.pool, heartbeat) if isinstance(spec.target, ValidationTarget) else []
    clip_model = _clip_model(spec.clip_model)
    run = _run(spec, clip_model, heartbeat)
    trained = trained_parameters(run.model, run.locks)
    plan = Plan(
        shards=shards,
        caption_field=spec.pool.caption_field,
        checkpoints=run.checkpoints,
        model=run.model,
        clip_model=clip_model,
        clip_pretrained=spec.clip_model.pretrained if spec.clip_model else None,
        parameters=counted_parameters(spec.parameters, run.model, trained),
        target=spec.target,
        target_shards=target,
        reference_size=spec.reference.size,
        reference_seed=spec.reference.seed,
        n_samples=_n_samples(shards, heartbeat),
        scores=spec.scores,
        seed=spec.seed,
        part_version=PART_VERSION,
        metadata=spec.pool.metadata,
        clusters=_clusters(spec),
        trained=trained,
        horizon=_horizon(spec, run.checkpoints),
        captions=spec.pool.captions,
    )
    return plan, run.warnings + _warnings(plan) + cautions(spec.select.by)


def _run(spec: JobSpec, clip_model: PlannedModel | None, heartbeat: Callable[[], object]) -> PlannedRun:
    """Return the training run; without one, no checkpoints and the architecture of the CLIP-score model."""
    if spec.checkpoints is not None:
        return plan_checkpoints(spec.checkpoints, spec.model, heartbeat)
    assert clip_model is not None
    return PlannedRun([], clip_model, {}, [])


def _horizon(spec: JobSpec, checkpoints: list[PlannedCheckpoint]) -> Literal["auto"] | int | None:
    """Return the horizon as the plan records it: None wherever it is the last checkpoint.

    Raises:
        InvalidSpec: no checkpoint has the step that the spec names.
    """
    wanted = spec.checkpoints.horizon if spec.checkpoints else "last"
    if wanted == "last" or not set(ESTIMATORS) & set(spec.scores):
        return None
    if wanted == "auto":
        return "auto" if isinstance(spec.target, ValidationTarget) and len(checkpoints) > 1 else None
    steps = [checkpoint.step.value for checkpoint in checkpoints]
    if wanted not in steps:
        named = ", ".join(f"{step:.0f}" for step in steps)
        raise InvalidSpec(
            f"checkpoints.horizon is {wanted}, and no checkpoint has that step; expected one of {named}, `auto` or "
            "`last`",
            field="checkpoints.horizon",
        )
    return None if wanted == steps[-1] else wanted


def save_plan(storage: Storage, plan: Plan, job_id: str, spec: JobSpec, join: Callable[[], object]) -> None:
    """Write the plan, and the job's reference to it.

    Args:
        join: registers the job as a user of the plan, before it relies on any file of it.
    """
    reference = {"plan_id": plan.id, "thumbnails": spec.thumbnails}
    write_json(storage, JobFolder(job_id).plan, json.dumps(reference))
    join()
    storage.write(PlanFolder(plan.id).plan, plan.model_dump_json(indent=2).encode())


def load_job_plan(storage: Storage, job_id: str) -> tuple[str, bool]:
    """Return the id of the job's plan, and whether its shards get thumbnails."""
    reference = load_json(storage, JobFolder(job_id).plan, json.loads)
    return reference["plan_id"], reference.get("thumbnails", False)


def _clusters(spec: JobSpec) -> int:
    """Return the number of clusters; by default none if they would need a pass of their own."""
    if spec.clusters is not None:
        return spec.clusters
    return min(DEFAULT_CLUSTERS, spec.reference.size // SAMPLES_PER_CLUSTER) if spec.embeds else 0


def _clip_model(spec: ClipModelSpec | None) -> PlannedModel | None:
    """Return the architecture, with the activation and the preprocessing that a tag's weights were trained with."""
    if spec is None:
        return None
    config, tag = registered(spec.name), open_clip.get_pretrained_cfg(spec.name, spec.pretrained)
    check_tag(spec.name, spec.pretrained)
    if tag.get("quick_gelu"):
        config["quick_gelu"] = True
    own = tag_preprocess(spec.name, spec.pretrained)
    source = "the weights' tag" if own else "open_clip defaults"
    return PlannedModel(name=spec.name, config=config, source="spec", preprocess=own, preprocess_source=source)


def _n_samples(shards: list[PlannedShard], heartbeat: Callable[[], object]) -> Sourced:
    """Return N, at least 1: from the files beside the shards, else from the tar headers, else an estimate."""
    counts = [shard.expected for shard in shards]
    if all(count is not None for count in counts):
        source = ROWS if all(shard.rows is not None for shard in shards) else "files beside the shards"
        return Sourced(value=max(sum(count or 0 for count in counts), 1), source=source)
    counted: list[int | None] = []
    for shard in shards:
        counted.append(shard.expected if shard.expected is not None else count_samples(shard))
        heartbeat()
    known = [(count, shard.size) for count, shard in zip(counted, shards, strict=True) if count is not None]
    total = sum(count for count, _ in known)
    if len(known) == len(shards):
        return Sourced(value=max(total, 1), source="tar headers")
    sizes = sum(size for _, size in known)
    if not sizes:
        return Sourced(value=1, source="not known: scores are not divided by N, which changes no ranking")
    estimate = round(total * sum(shard.size for shard in shards) / sizes)
    return Sourced(value=max(estimate, 1), source="estimated from sizes")


def _warnings(plan: Plan) -> list[str]:
    warnings: list[str] = []
    if "multimodal_cfg" in plan.model.config:
        warnings.append("CoCa: the captioning loss and the parameters of its decoder (text_decoder) are ignored")
    if not INFLUENCE & set(plan.scores):
        return warnings
    if len(plan.checkpoints) == 1:
        warnings.append("there is only one checkpoint; influence over training needs several, for example five")
    if any(c.lr.value == 0 for c in plan.checkpoints):
        warnings.append("a checkpoint's learning rate is 0; it adds nothing to tracin and diffin_eq9")
    warnings += [
        f"{c.uri}: the learning rates of the steps before it sum to 0; it adds nothing to diffin"
        for c in plan.checkpoints
        if c.lr_sum.value == 0
    ]
    if plan.checkpoints[-1].optimizer is None:
        warnings.append("the checkpoints contain no Adam state; diffin treats the run as plain SGD (P = 1)")
    if plan.trained is not None:
        warnings.append(
            "the run locked a tower (--lock-image, --lock-text in params.txt): only the parameters that it trained are "
            "counted"
        )
    return warnings
